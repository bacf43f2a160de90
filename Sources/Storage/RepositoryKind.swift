/// A kind of repository: the scheme of its addresses, and how they are read.
///
/// A new kind is one file with a value of this type and its store, and one line in `all`.
struct RepositoryKind: Sendable {
    /// The kinds of repositories. Messages, hints and the choice of a store follow this list.
    static let all: [RepositoryKind] = [.folder, .s3]

    /// The scheme, in lower case, without `://`.
    let scheme: String
    /// How addresses are written, for hints.
    let forms: [String]
    /// Reads an address with this scheme. Connects to nothing.
    ///
    /// - Throws: `StorageError.badLocation`.
    let read: @Sendable (_ address: String) throws(StorageError) -> any RepositoryLocation
}

/// Where a repository is, as its address says.
protocol RepositoryLocation: Sendable {
    /// For messages and labels; holds no secret.
    var place: String { get }

    /// - Throws: `StorageError` for a store that cannot be used as it is configured, for instance without credentials.
    func store(_ surroundings: RepositoryAddress.Surroundings) throws(StorageError) -> any ObjectStore
}
