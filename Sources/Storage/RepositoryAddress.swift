/// The address of a repository in the configuration: the path of a folder, or `SCHEME://…`.
///
///     let address = try RepositoryAddress("s3://bucket/prefix?region=eu-west-1")
///     let store = address.store(RepositoryAddress.Surroundings(environment: environment))
public struct RepositoryAddress: Sendable {
    /// The values that are needed, in addition to an address, to find and open its store.
    public struct Surroundings: Sendable {
        /// The environment variables, which may contain credentials.
        public var environment: [String: String]
        /// Returns the absolute path of a folder whose path is relative.
        public var resolve: @Sendable (_ path: String) -> String

        public init(
            environment: [String: String], resolve: @escaping @Sendable (_ path: String) -> String = { $0 }
        ) {
            self.environment = environment
            self.resolve = resolve
        }
    }

    private let location: any RepositoryLocation

    /// Parses an address. Connects to nothing, and does not check for the folder or credentials.
    ///
    /// - Throws: `StorageError.badLocation` if the scheme is unknown or the address is invalid for its kind of
    ///   repository.
    public init(_ text: String) throws(StorageError) {
        guard !text.isEmpty else { throw Self.refusal(of: text, "it is empty") }
        guard let scheme = Self.scheme(of: text) else {
            location = FolderLocation(path: text)
            return
        }
        guard let kind = RepositoryKind.all.first(where: { $0.scheme == scheme }) else {
            let known = RepositoryKind.all.map(\.scheme).joined(separator: ", ")
            throw Self.refusal(of: text, "unknown scheme '\(scheme)'; known schemes are \(known)")
        }
        location = try kind.read(text)
    }

    /// Returns the store at the address.
    ///
    /// A store that cannot be used as it is configured, for instance without credentials, fails only when it is used,
    /// so that the other repositories still work.
    public func store(_ surroundings: Surroundings) -> any ObjectStore {
        do {
            return try location.store(surroundings)
        } catch {
            return UnusableStore(location.place, error)
        }
    }

    /// Returns the scheme in lower case; nil for a path. `gs:/b` counts as a scheme, because a single slash is probably
    /// a mistake. A folder of that name is written `./gs:/b`.
    private static func scheme(of text: String) -> String? {
        text.prefixMatch(of: /([A-Za-z][A-Za-z0-9+.\-]*):\//).map { $0.1.lowercased() }
    }

    /// Returns the error about an invalid address. The error leaves out the parts that may be secret: the query, and
    /// the part before an `@`.
    static func refusal(of text: String, _ reason: String) -> StorageError {
        let shown = text.prefix { $0 != "?" }
        guard let at = shown.lastIndex(of: "@"), let end = shown.firstRange(of: "://")?.upperBound, end <= at else {
            return .badLocation(String(shown), reason: reason)
        }
        return .badLocation("\(shown[..<end])***\(shown[at...])", reason: reason)
    }
}
