/// A kind of repository: the scheme of its addresses, and the function that parses them.
///
/// A new kind requires one file with its store and a value of this type, and one entry in `all`.
struct RepositoryKind: Sendable {
    /// All kinds of repositories. Messages, hints and the choice of a store use this list.
    static let all: [RepositoryKind] = [.folder, .s3]

    /// The scheme of the addresses, in lower case, without `://`.
    let scheme: String
    /// The forms of an address, for hints.
    let forms: [String]
    /// Parses an address with this scheme. Connects to nothing.
    ///
    /// - Throws: `StorageError.badLocation`.
    let read: @Sendable (_ address: String) throws(StorageError) -> any RepositoryLocation
}

/// The location of a repository, parsed from its address.
protocol RepositoryLocation: Sendable {
    /// The location in messages and labels. Contains no secret.
    var place: String { get }

    /// Returns the store at the location.
    ///
    /// - Throws: `StorageError` if the store cannot be used as it is configured, for instance without credentials.
    func store(_ surroundings: RepositoryAddress.Surroundings) throws(StorageError) -> any ObjectStore
}
