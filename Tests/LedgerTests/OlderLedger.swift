import Postgres

@testable import Ledger

extension LedgerSchema {
    /// Makes a ledger as an older program made it.
    static func install(version: Int, on connection: isolated Connection) throws {
        try connection.transaction {
            try connection.execute("CREATE SCHEMA reeve")
            for sql in changes.prefix(version) { try connection.execute(sql) }
            try connection.query("UPDATE reeve.ledger SET version = $1", [version])
        }
    }
}
