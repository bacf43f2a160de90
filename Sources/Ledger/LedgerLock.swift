import Postgres

/// Session-level advisory locks. Their keys depend on the secret identifier of the ledger, which only roles with read
/// access to the ledger know.
public enum LedgerLock {
    /// Returns the lock for a purpose.
    ///
    /// - Parameter purpose: the work that the lock protects; it is part of the key, and appears in messages.
    /// - Throws: the errors of `LedgerSchema.estate`. Without a ledger, the key depends on the purpose only.
    public static func named(_ purpose: String, on connection: isolated Connection) throws -> AdvisoryLock {
        AdvisoryLock(purpose, secret: try LedgerSchema.estate(on: connection) ?? "")
    }
}
