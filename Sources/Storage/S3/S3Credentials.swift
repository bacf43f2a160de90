import Foundation

/// The access keys that requests to S3-compatible storage are signed with.
public struct S3Credentials: Sendable, Equatable {
    public let accessKey: String
    public let secretKey: String
    public let sessionToken: String?

    public init(accessKey: String, secretKey: String, sessionToken: String? = nil) {
        self.accessKey = accessKey
        self.secretKey = secretKey
        self.sessionToken = sessionToken
    }

    /// Reads the credentials from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, or, if these
    /// are not set, from the shared credentials file (`AWS_SHARED_CREDENTIALS_FILE`, by default `~/.aws/credentials`).
    ///
    /// - Parameter profile: a profile of the shared credentials file, which is then the only source. If nil, the
    ///   variables are used; if they are not set, the profile `AWS_PROFILE`, or else `default`, of that file.
    /// - Throws: `StorageError.noCredentials`.
    public static func find(
        profile: String?, environment: [String: String], place: String
    ) throws(StorageError) -> S3Credentials {
        if profile == nil, let access = environment["AWS_ACCESS_KEY_ID"],
            let secret = environment["AWS_SECRET_ACCESS_KEY"]
        {
            return S3Credentials(
                accessKey: access, secretKey: secret, sessionToken: environment["AWS_SESSION_TOKEN"])
        }
        let home = environment["HOME"] ?? NSHomeDirectory()
        let file = environment["AWS_SHARED_CREDENTIALS_FILE"] ?? "\(home)/.aws/credentials"
        let name = profile ?? environment["AWS_PROFILE"] ?? "default"
        guard let text = try? String(contentsOfFile: file, encoding: .utf8), let found = read(text, profile: name)
        else { throw StorageError.noCredentials(place: place, file: file, profile: name) }
        return found
    }

    /// Reads the section of a profile from the text of a credentials file.
    ///
    /// - Returns: nil if the section is missing or has no access key or no secret key.
    static func read(_ text: String, profile: String) -> S3Credentials? {
        var section = ""
        var values: [String: String] = [:]
        for line in text.split(whereSeparator: \.isNewline).map({ $0.trimmingCharacters(in: .whitespaces) }) {
            if line.hasPrefix("["), line.hasSuffix("]") {
                section = line.dropFirst().dropLast().trimmingCharacters(in: .whitespaces)
            } else if section == profile, !line.hasPrefix("#"), let equals = line.firstIndex(of: "=") {
                let key = line[..<equals].trimmingCharacters(in: .whitespaces)
                values[key] = line[line.index(after: equals)...].trimmingCharacters(in: .whitespaces)
            }
        }
        guard let access = values["aws_access_key_id"], let secret = values["aws_secret_access_key"] else { return nil }
        return S3Credentials(accessKey: access, secretKey: secret, sessionToken: values["aws_session_token"])
    }
}
