import Hashing
import Postgres

/// The audit chain: a log of who did what to this database. The hash of each entry covers the hash of the previous
/// entry.
///
/// The chain reveals a change unless all later hashes are recomputed. The owner of the schema can recompute them.
/// Anchors (`AuditAnchor`), which are stored outside the database, also reveal a chain with recomputed hashes.
public enum Audit {
    /// The tables of the chain, in the first version of the ledger.
    static let tables = """
        CREATE TABLE reeve.audit (
            seq bigint PRIMARY KEY,
            entry text NOT NULL,
            previous bytea NOT NULL,
            hash bytea NOT NULL UNIQUE
        );
        COMMENT ON TABLE reeve.audit IS 'hash = SHA-256(previous || entry); entry is a JSON object';
        CREATE TABLE reeve.audit_head (
            singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
            seq bigint NOT NULL,
            hash bytea NOT NULL
        );
        INSERT INTO reeve.audit_head (seq, hash) VALUES (0, decode(repeat('00', 32), 'hex'));

        CREATE FUNCTION reeve.append_audit(actor text, action text, subject text, detail jsonb)
            RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            head record;
            line text;
            digest bytea;
        BEGIN
            SELECT a.seq, a.hash INTO STRICT head FROM reeve.audit_head a FOR UPDATE;
            line := jsonb_build_object(
                'seq', head.seq + 1,
                'at', to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                'actor', actor, 'action', action, 'subject', subject, 'detail', detail)::text;
            digest := sha256(head.hash || convert_to(line, 'UTF8'));
            INSERT INTO reeve.audit VALUES (head.seq + 1, line, head.hash, digest);
            UPDATE reeve.audit_head SET seq = head.seq + 1, hash = digest;
            RETURN head.seq + 1;
        END $$;
        CREATE FUNCTION reeve.refuse_audit_change() RETURNS trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            RAISE EXCEPTION 'the audit chain is append-only' USING ERRCODE = 'insufficient_privilege';
        END $$;
        CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON reeve.audit
            FOR EACH STATEMENT EXECUTE FUNCTION reeve.refuse_audit_change();
        """

    /// Appends an entry, in the transaction of the action that the entry describes. Call it last in the transaction,
    /// because the chain is locked until the transaction ends.
    ///
    /// - Parameter detail: a JSON object without secrets and without personal data.
    /// - Returns: the number of the entry.
    @discardableResult
    public static func append(
        actor: String, action: String, subject: String, detail: JSONText = JSONText("{}"),
        on connection: isolated Connection
    ) throws -> Int64 {
        let rows = try connection.query(
            "SELECT reeve.append_audit($1, $2, $3, $4::jsonb)",
            [
                LedgerText.clean(actor), LedgerText.clean(action), LedgerText.clean(subject), LedgerText.clean(detail),
            ])
        return try rows.first?.get(0) ?? 0
    }

    /// A position in the chain.
    public struct Position: Sendable, Equatable {
        public let entries: Int64
        /// The hash of the last entry; zeros if there is none.
        public let hash: [UInt8]

        public static let start = Position(entries: 0, hash: [UInt8](repeating: 0, count: 32))

        public init(entries: Int64, hash: [UInt8]) {
            self.entries = entries
            self.hash = hash
        }

        init(_ anchor: AuditAnchor) { self.init(entries: anchor.entries, hash: anchor.hash) }
    }

    /// The result of a verification of the whole chain.
    public struct Verification: Sendable, Equatable {
        /// The last position up to which the chain is consistent.
        public var end = Position.start
        public var entries: Int64 { end.entries }
        /// The number of the first entry that does not match. If the mismatch can only be narrowed down to a range,
        /// this is the first entry of the range. nil if all entries match.
        public var brokenAt: Int64?
        /// Whether all entries match each other, and `reeve.audit_head` matches the last entry.
        public var isConsistent = true
        /// The matching anchor with the most entries. Anchors after the first contradicted anchor are not considered.
        public var anchored: AuditAnchor?
        /// Anchors of entries whose hash is different now.
        public var contradicted: [AuditAnchor] = []
        /// Anchors of entries after the end of the chain.
        public var beyond: [AuditAnchor] = []
        public var isIntact: Bool { brokenAt == nil }

        public init() {}
    }

    /// Returns the identity of this ledger: its identifier, the server and the database.
    ///
    /// - Throws: `PostgresError`.
    public static func identity(on connection: isolated Connection) throws -> AuditIdentity {
        let server = try ServerIdentity.systemIdentifier(on: connection)
        let row = try connection.query("SELECT estate, pg_catalog.current_database()::text AS name FROM reeve.ledger")
            .first
        guard let row else { throw PostgresError(.badValue, "reeve.ledger has no row") }
        return AuditIdentity(
            ledger: try row.get("estate"), server: server ?? "-", database: try row.get("name"))
    }

    /// Recomputes the hash of every entry, and compares the chain with anchors.
    ///
    /// - Parameter anchors: genuine anchors of this ledger. They must be read before this call. An entry is committed
    ///   before its anchor is written, so the chain as read here contains the entries of all these anchors.
    /// - Throws: `PostgresError`.
    public static func verify(_ anchors: [AuditAnchor] = [], on connection: isolated Connection) throws -> Verification
    {
        try connection.transaction(TransactionOptions(isolation: .repeatableRead, readOnly: true)) {
            let byEntry = Dictionary(grouping: anchors, by: \.entries)
            var result = Verification()
            func compare(_ position: Position) {
                for anchor in byEntry[position.entries] ?? [] {
                    if anchor.hash != position.hash {
                        result.contradicted.append(anchor)
                    } else if result.contradicted.isEmpty {
                        result.anchored = anchor
                    }
                }
            }
            compare(.start)
            var end = Position.start
            let fits = try walk(after: &end, on: connection, compare)
            result.end = end
            // If the last entries were removed, `reeve.audit_head` still names an entry that no longer exists.
            let head = try connection.query("SELECT seq, hash FROM reeve.audit_head").first
            let headFits =
                try head?.get("seq", as: Int64.self) == result.entries
                && head?.get("hash", as: Bytes.self).bytes == result.end.hash
            result.isConsistent = fits && headFits
            result.beyond = fits ? anchors.filter { $0.entries > result.entries } : []
            if !result.contradicted.isEmpty {
                result.brokenAt = (result.anchored?.entries ?? 0) + 1
            } else if !result.isConsistent || !result.beyond.isEmpty {
                result.brokenAt = result.entries + 1
            }
            return result
        }
    }

    /// Returns the end of the chain, if the chain contains the entry at `position` and is consistent after it. A new
    /// anchor may be made only of an end that this function returns.
    ///
    /// - Parameter position: the position of the newest anchor.
    /// - Returns: nil if the chain no longer contains the entry at `position`, or is not consistent after it.
    /// - Throws: `PostgresError`.
    public static func end(after position: Position, on connection: isolated Connection) throws -> Position? {
        try connection.transaction(TransactionOptions(isolation: .repeatableRead, readOnly: true)) {
            if position.entries > 0 {
                let row = try connection.query("SELECT hash FROM reeve.audit WHERE seq = $1", [position.entries]).first
                guard try row?.get(0, as: Bytes.self).bytes == position.hash else { return nil }
            }
            var end = position
            return try walk(after: &end, on: connection) { _ in } ? end : nil
        }
    }

    /// Checks the entries from a position to the end, 500 at a time.
    ///
    /// - Returns: false at the first entry that does not match; `end` is then the position before it.
    private static func walk(
        after end: inout Position, on connection: isolated Connection, _ passed: (Position) -> Void
    ) throws -> Bool {
        while true {
            let rows = try connection.query(
                "SELECT seq, entry, previous, hash FROM reeve.audit WHERE seq > $1 ORDER BY seq LIMIT 500",
                [end.entries])
            for row in rows {
                let seq = try row.get("seq", as: Int64.self)
                let expected = Digest.of(end.hash + Array(try row.get("entry", as: String.self).utf8))
                let fits =
                    try seq == end.entries + 1
                    && row.get("previous", as: Bytes.self).bytes == end.hash
                    && row.get("hash", as: Bytes.self).bytes == expected
                guard fits else { return false }
                end = Position(entries: seq, hash: expected)
                passed(end)
            }
            if rows.isEmpty { return true }
        }
    }
}
