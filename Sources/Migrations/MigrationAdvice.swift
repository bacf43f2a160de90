import Postgres

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
        case "25P01":  // LOCK TABLE, SAVEPOINT or DECLARE outside a transaction
            return "with '-- reeve: no-transaction', put BEGIN and COMMIT around the statements that belong together"
        case "42501": return MissingPrivilege.hint(for: error.message, role: "the role that migrates")
        case "2BP01":  // other objects depend on it
            return "the objects that depend on it are listed above: drop or change them in this migration, too"
        default: return nil
        }
    }
}
