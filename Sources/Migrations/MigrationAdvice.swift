import Postgres
import SQL

/// Adds hints to errors of the server that a migration caused, where the cause is known and the server gives no hint.
struct MigrationAdvice {
    let action: MigrationAction

    func advised(_ error: PostgresError) -> PostgresError {
        guard let hint = hint(for: error) else { return error }
        var error = error
        error.hint = [error.hint, hint].compactMap { $0 }.joined(separator: "\n")
        return error
    }

    private func hint(for error: PostgresError) -> String? {
        switch error.sqlState {
        case "55P04":  // unsafe use of a new enum value
            return "a new value of an enum can be used only after it was committed: use it in a later migration, or "
                + "write '-- reeve: no-transaction' at the beginning of this file"
        case "25001":  // the statement cannot run in a transaction
            return "write '-- reeve: no-transaction' at the beginning of the file, so that each statement is committed "
                + "by itself"
        case "2D000":  // COMMIT in a procedure, within a transaction
            return "a procedure that commits requires '-- reeve: no-transaction' at the beginning of the file"
        case "42P07" where action.steps.contains(where: \.buildsIndex):  // the name is taken
            return "an interrupted CREATE INDEX CONCURRENTLY leaves an invalid index: if this is one, which \\d of its "
                + "table shows, drop it with DROP INDEX CONCURRENTLY, and run the command again"
        case "42P07", "42P06", "42710", "42723":
            return "if the database had this schema before Reeve, record the migrations that it has with "
                + "'reeve migrate baseline'"
        case "42501": return grant(for: error.message)
        case "2BP01":  // other objects depend on it
            return "the objects that depend on it are listed above: drop or change them in this migration, too"
        default: return nil
        }
    }

    /// Returns which privilege is missing, from the message of the server: `permission denied for schema app`.
    private func grant(for message: String) -> String? {
        if let match = message.firstMatch(of: /must be owner of (?:\w+ )+(\S+)/) {
            return "the role that migrates must own \(match.1), or be a member of the role that owns it"
        }
        if let match = message.firstMatch(of: /permission denied to create extension "(.+)"/) {
            return "let a superuser run CREATE EXTENSION \(quoteIdentifier(String(match.1))) once, or grant CREATE on "
                + "the database if the extension is trusted"
        }
        guard let match = message.firstMatch(of: /permission denied for (\w+) (.+)/) else { return nil }
        let name = quoteIdentifier(String(match.2))
        switch match.1 {
        case "schema": return "GRANT USAGE, CREATE ON SCHEMA \(name) to the role that migrates, or make it the owner"
        case "database": return "GRANT CREATE ON DATABASE \(name) to the role that migrates"
        case "table", "view": return "GRANT the privileges that the statement requires ON \(name)"
        case "sequence": return "GRANT USAGE ON SEQUENCE \(name) to the role that migrates"
        case "function", "procedure":
            return "GRANT EXECUTE ON \(match.1.uppercased()) \(match.2) to the role that migrates"
        case "language", "type": return "GRANT USAGE ON \(match.1.uppercased()) \(name) to the role that migrates"
        default: return nil
        }
    }
}
