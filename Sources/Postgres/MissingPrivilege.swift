import SQL

/// Says which privilege a role lacks. PostgreSQL's message names the object only: `permission denied for schema app`.
public enum MissingPrivilege {
    /// Returns what would allow the statement; nil if the message is not known, for instance in another language.
    ///
    /// - Parameters:
    ///   - message: of an error with SQLSTATE 42501, in English.
    ///   - role: describes the role that lacks the privilege.
    public static func hint(for message: String, role: String = "the role that Reeve connects as") -> String? {
        if let match = message.firstMatch(of: /must be owner of (?:\w+ )+(\S+)/) {
            return "\(role) must own \(match.1), or be a member of the role that owns it"
        }
        if let match = message.firstMatch(of: /permission denied to create extension "(.+)"/) {
            return "let a superuser run CREATE EXTENSION \(quoteIdentifier(String(match.1))) once, or grant CREATE on "
                + "the database if the extension is trusted"
        }
        guard let match = message.firstMatch(of: /permission denied for (\w+) (.+)/) else { return nil }
        let name = quoteIdentifier(String(match.2))
        switch match.1 {
        case "schema": return "GRANT USAGE, CREATE ON SCHEMA \(name) to \(role), or make it the owner"
        case "database": return "GRANT CREATE ON DATABASE \(name) to \(role)"
        case "table", "view": return "GRANT the privileges that the statement requires ON \(name) to \(role)"
        case "sequence": return "GRANT USAGE ON SEQUENCE \(name) to \(role)"
        case "function", "procedure": return "GRANT EXECUTE ON \(match.1.uppercased()) \(match.2) to \(role)"
        case "language", "type": return "GRANT USAGE ON \(match.1.uppercased()) \(name) to \(role)"
        default: return nil
        }
    }
}
