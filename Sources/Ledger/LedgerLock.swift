import Postgres

/// Session locks under keys that only roles with read access to the ledger know.
public enum LedgerLock {
    /// - Parameter purpose: what the lock keeps apart, for messages.
    /// - Throws: as `LedgerSchema.estate`. Without a ledger the key is the name's.
    public static func named(_ purpose: String, on connection: isolated Connection) throws -> AdvisoryLock {
        AdvisoryLock(purpose, secret: try LedgerSchema.estate(on: connection) ?? "")
    }
}
