import Foundation

/// The location of objects in S3-compatible storage, and the settings of its server.
///
/// The text form is `s3://BUCKET/PREFIX`, with settings after a question mark: `endpoint=https://host:port` (default:
/// Amazon's endpoint in the region), `region=us-east-1`, `path_style=yes|no` (default: yes if an endpoint is set),
/// `checksums=sha256|none`, `lock=governance:30d` or `lock=compliance:30d` for Object Lock, `profile=NAME` for a
/// profile of the shared credentials file.
public struct S3Location: Sendable, Equatable {
    /// The Object Lock retention of new objects.
    public struct Lock: Sendable, Equatable {
        /// `GOVERNANCE` or `COMPLIANCE`.
        public let mode: String
        public let days: Int
    }

    public var bucket: String
    /// The prefix of all keys, without leading or trailing slashes; empty for none.
    public var prefix: String
    /// The scheme, host and port, without a trailing slash.
    public var endpoint: String
    public var region: String
    public var isPathStyle: Bool
    /// Whether requests include SHA-256 checksums, which the server checks and stores.
    public var hasChecksums: Bool
    public var lock: Lock?
    public var profile: String?

    private static let scheme = "s3://"

    /// - Throws: `StorageError.badLocation`.
    public init(_ text: String) throws(StorageError) {
        func refuse(_ reason: String) -> StorageError { RepositoryAddress.refusal(of: text, reason) }
        guard text.hasPrefix(Self.scheme) else { throw refuse("it does not begin with s3://") }
        let halves = text.dropFirst(Self.scheme.count).split(
            separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        let path = halves[0].split(separator: "/")
        guard let bucket = path.first, halves[0].hasPrefix(bucket), !bucket.contains("@") else {
            throw refuse("it has no bucket")
        }
        self.bucket = String(bucket)
        prefix = path.dropFirst().joined(separator: "/")
        var settings: [String: String] = [:]
        for item in halves.count > 1 ? halves[1].split(separator: "&") : [] {
            let pair = item.split(separator: "=", maxSplits: 1)
            guard pair.count == 2, let value = String(pair[1]).removingPercentEncoding else {
                throw refuse("'\(item)' is not of the form KEY=VALUE")
            }
            settings[String(pair[0])] = value
        }
        func yes(_ name: String) throws(StorageError) -> Bool? {
            switch settings.removeValue(forKey: name) {
            case nil: nil
            case "yes", "true", "1": true
            case "no", "false", "0": false
            case .some(let other): throw refuse("'\(name)' is '\(other)', not 'yes' or 'no'")
            }
        }
        region = settings.removeValue(forKey: "region") ?? "us-east-1"
        let named = settings.removeValue(forKey: "endpoint")
        endpoint = named.map { $0.hasSuffix("/") ? String($0.dropLast()) : $0 } ?? "https://s3.\(region).amazonaws.com"
        guard let url = URL(string: endpoint), ["http", "https"].contains(url.scheme ?? ""), url.host != nil,
            url.path.isEmpty, url.user == nil
        else { throw refuse("'endpoint' is '\(HostOnly(endpoint))', not http(s)://HOST[:PORT]") }
        isPathStyle = try yes("path_style") ?? (named != nil)
        switch settings.removeValue(forKey: "checksums") {
        case nil, "none": hasChecksums = false
        case "sha256": hasChecksums = true
        case .some(let other): throw refuse("'checksums' is '\(other)', not 'sha256' or 'none'")
        }
        if let text = settings.removeValue(forKey: "lock") {
            let words = text.split(separator: ":")
            guard words.count == 2, ["governance", "compliance"].contains(words[0]), words[1].hasSuffix("d"),
                let days = Int(words[1].dropLast()), (1...36_500).contains(days)
            else { throw refuse("'lock' is '\(text)', not governance:Nd or compliance:Nd, with N from 1 to 36500") }
            lock = Lock(mode: words[0].uppercased(), days: days)
        } else {
            lock = nil
        }
        profile = settings.removeValue(forKey: "profile")
        if let unknown = settings.keys.sorted().first { throw refuse("'\(unknown)' is not a known setting") }
    }

    /// An endpoint without the part before an `@`, which may be a secret, for messages.
    private struct HostOnly: CustomStringConvertible {
        let description: String
        init(_ endpoint: String) { description = endpoint.split(separator: "@").last.map(String.init) ?? endpoint }
    }

    /// The location in messages and labels. Contains no secret.
    public var place: String { Self.scheme + bucket + (prefix.isEmpty ? "" : "/\(prefix)") }

    /// Returns the key of an object in the bucket.
    func key(_ name: String) -> String { prefix.isEmpty ? name : "\(prefix)/\(name)" }

    /// The scheme and host of the requests, and the path before an object's key.
    var base: (origin: String, path: String) {
        if isPathStyle { return (endpoint, "/\(bucket)") }
        let parts = endpoint.components(separatedBy: "://")
        return ("\(parts[0])://\(bucket).\(parts.dropFirst().joined())", "")
    }
}

extension RepositoryKind {
    /// A bucket of S3-compatible storage.
    static let s3 = RepositoryKind(
        scheme: "s3", forms: ["s3://BUCKET/PREFIX?endpoint=https://HOST&region=REGION"]
    ) { text throws(StorageError) in
        try S3Location(text)
    }
}

extension S3Location: RepositoryLocation {
    func store(_ surroundings: RepositoryAddress.Surroundings) throws(StorageError) -> any ObjectStore {
        let credentials = try S3Credentials.find(
            profile: profile, environment: surroundings.environment, place: place)
        return S3Store(self, credentials)
    }
}
