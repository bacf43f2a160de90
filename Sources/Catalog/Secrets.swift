import Hashing
import Postgres
import SQL

/// Keeps secrets out of catalogs: the options of foreign servers, user mappings and the like, and the connection strings
/// of subscriptions. A catalog contains a mask instead. A digest, which is never written anywhere, shows whether two
/// catalogs of this process have the same secret.
enum Secrets {
    static let mask = "<hidden>"
    /// The value of a property that the role may not read. It is not compared.
    static let unreadable = "(not readable)"

    /// The key of the digests. It is different in each process, so a digest is of no use to guess a secret.
    private static let key = (0..<32).map { _ in UInt8.random(in: 0...255) }

    /// Returns whether a property may contain secrets.
    static func mayBeIn(_ property: String, of kind: ObjectKind) -> Bool {
        switch (kind, property) {
        case (.foreignServer, "options"), (.userMapping, "options"), (.foreignDataWrapper, "options"),
            (.foreignTable, "foreign options"), (.column, "foreign options"), (.subscription, "connection"):
            true
        default: false
        }
    }

    /// Returns a property without its secrets, and their digest; nil if there are none.
    static func hide(in value: String, of kind: ObjectKind) -> (text: String, digest: [UInt8]?) {
        if value == unreadable { return (value, nil) }
        let pairs =
            kind == .subscription
            ? connection(value) : OptionList(value).pairs.map { (name: $0.name, value: $0.value) }
        guard let pairs else { return (mask, digest(value)) }
        var hidden: [String] = []
        let shown = pairs.map { pair -> (name: String, value: String) in
            guard isSecret(pair.name, pair.value, in: kind) else { return pair }
            hidden += [pair.name, pair.value]
            return (pair.name, mask)
        }
        if hidden.isEmpty, kind != .subscription { return (value, nil) }
        let text = shown.map { OptionList.spelled($0.name, $0.value) }.joined(separator: ", ")
        return (text, hidden.isEmpty ? nil : digest(hidden.map { "\($0.utf8.count):\($0)" }.joined()))
    }

    private static func digest(_ text: String) -> [UInt8] { hmacSHA256(key: key, text.utf8) }

    /// Returns the parameters of a connection string, ordered by name; nil if it cannot be parsed.
    private static func connection(_ text: String) -> [(name: String, value: String)]? {
        guard let settings = try? ConnectionSettings(connectionString: text) else { return nil }
        return settings.parameters.sorted { ExactText.precedes($0.key, $1.key) }.map { ($0.key, $0.value) }
    }

    /// Returns whether an option is secret. Of a user mapping, every option is secret except the user's name, because
    /// wrappers name their options as they like.
    private static func isSecret(_ name: String, _ value: String, in kind: ObjectKind) -> Bool {
        let words = name.lowercased().split { !$0.isLetter }.map(String.init)
        if kind == .userMapping { return !["user", "username"].contains(words.joined()) }
        let parts = [
            "passw", "passcode", "secret", "token", "credential", "passphrase", "apikey", "accesskey", "private",
            "bearer",
            "connectionstring",
        ]
        let whole = [
            "pass", "pwd", "pin", "key", "auth", "authorization", "dsn", "conninfo", "connstr", "conn", "jwt", "cred",
            "creds", "sas", "sig", "session",
        ]
        return parts.contains(where: words.joined().contains) || words.contains(where: whole.contains)
            || isSecret(value)
    }

    /// Returns whether a value looks like a connection string, a URL with a user, or an HTTP header with a secret.
    private static func isSecret(_ value: String) -> Bool {
        let text = value.lowercased()
        return text.contains("://") && text.contains("@") || text.hasPrefix("bearer ")
            || text.contains(/(?:passw(?:or)?d|pwd|api_?key|sig|secret|token|authorization)\s*[=:]/)
    }
}
