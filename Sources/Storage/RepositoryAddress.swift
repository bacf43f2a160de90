/// The address of a repository as the configuration has it: the path of a folder, or `SCHEME://…`.
///
///     let address = try RepositoryAddress("s3://bucket/prefix?region=eu-west-1")
///     let store = address.store(RepositoryAddress.Surroundings(environment: environment))
public struct RepositoryAddress: Sendable {
    /// What an address depends on beside its own text.
    public struct Surroundings: Sendable {
        /// The variables that may hold credentials.
        public var environment: [String: String]
        /// Gives the path of a folder that is not absolute.
        public var resolve: @Sendable (_ path: String) -> String

        public init(
            environment: [String: String], resolve: @escaping @Sendable (_ path: String) -> String = { $0 }
        ) {
            self.environment = environment
            self.resolve = resolve
        }
    }

    private let location: any RepositoryLocation

    /// Reads an address. Connects to nothing, and looks for neither folder nor credentials.
    ///
    /// - Throws: `StorageError.badLocation` for an unknown scheme and for what its kind of repository refuses.
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

    /// The store at the address.
    ///
    /// A store that cannot be used as configured, for instance without credentials, fails only when it is used, so that
    /// the other repositories still work.
    public func store(_ surroundings: Surroundings) -> any ObjectStore {
        do {
            return try location.store(surroundings)
        } catch {
            return UnusableStore(location.place, error)
        }
    }

    /// The scheme in lower case; nil for a path. A scheme with a single slash is a mistake rather than a folder's name:
    /// a folder of that name is `./gs:/b`.
    private static func scheme(of text: String) -> String? {
        text.prefixMatch(of: /([A-Za-z][A-Za-z0-9+.\-]*):\//).map { $0.1.lowercased() }
    }

    /// The error about an address that cannot be read, without what may be secret in it: its query, and what stands
    /// before an `@`.
    static func refusal(of text: String, _ reason: String) -> StorageError {
        let shown = text.prefix { $0 != "?" }
        guard let at = shown.lastIndex(of: "@"), let end = shown.firstRange(of: "://")?.upperBound, end <= at else {
            return .badLocation(String(shown), reason: reason)
        }
        return .badLocation("\(shown[..<end])***\(shown[at...])", reason: reason)
    }
}
