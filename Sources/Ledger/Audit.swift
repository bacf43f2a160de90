import Hashing
import Postgres

/// The audit chain: what was done to this database, by whom, each entry hashed with the one before it.
public enum Audit {
    /// Adds an entry, in the transaction that did what it tells; the chain is locked from here to its end, so this
    /// comes last in it.
    ///
    /// - Parameter detail: a JSON object; no secrets and no subjects' data.
    /// - Returns: the entry's number.
    @discardableResult
    public static func append(
        actor: String, action: String, subject: String, detail: JSONText = JSONText("{}"),
        on connection: isolated Connection
    ) throws -> Int64 {
        let rows = try connection.query(
            "SELECT reeve.append_audit($1, $2, $3, $4::jsonb)", [
                LedgerText.clean(actor), LedgerText.clean(action), LedgerText.clean(subject), LedgerText.clean(detail),
            ])
        return try rows.first?.get(0) ?? 0
    }

    /// What a walk along the whole chain found.
    public struct Verification: Sendable, Equatable {
        public var entries: Int64 = 0
        /// The number of the first entry that does not fit; nil when all do.
        public var brokenAt: Int64?
        public var isIntact: Bool { brokenAt == nil }

        public init() {}
    }

    /// Walks along the chain and computes every hash anew.
    public static func verify(on connection: isolated Connection) throws -> Verification {
        try connection.transaction(TransactionOptions(isolation: .repeatableRead, readOnly: true)) {
            var result = Verification()
            var hash = [UInt8](repeating: 0, count: 32)
            while true {
                let rows = try connection.query(
                    "SELECT seq, entry, previous, hash FROM reeve.audit WHERE seq > $1 ORDER BY seq LIMIT 1000",
                    [result.entries])
                for row in rows {
                    let seq = try row.get("seq", as: Int64.self)
                    let expected = Digest.of(hash + Array(try row.get("entry", as: String.self).utf8))
                    let fits =
                        try seq == result.entries + 1
                        && row.get("previous", as: Bytes.self).bytes == hash
                        && row.get("hash", as: Bytes.self).bytes == expected
                    guard fits else {
                        result.brokenAt = result.entries + 1
                        return result
                    }
                    hash = expected
                    result.entries = seq
                }
                if rows.isEmpty { break }
            }
            // Entries cut off at the end leave a head that points beyond it.
            let head = try connection.query("SELECT seq, hash FROM reeve.audit_head").first
            let headFits =
                try head?.get("seq", as: Int64.self) == result.entries
                && head?.get("hash", as: Bytes.self).bytes == hash
            if !headFits { result.brokenAt = result.entries + 1 }
            return result
        }
    }
}
