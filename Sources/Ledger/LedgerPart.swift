/// The tables that a feature keeps in the ledger, with versions of their own; declared beside what reads them.
///
///     static let part = LedgerPart("queues", ["CREATE TABLE reeve.queues (…);", "ALTER TABLE reeve.queues …;"])
///
/// Names in the schema `reeve` are shared by all parts: begin them with the part's own. Functions are written in PL/pgSQL
/// with `SET search_path = pg_catalog, pg_temp`; anything else counts as foreign.
public struct LedgerPart: Sendable {
    public let name: String
    /// What each version adds to the one before. Entries are never changed once released, only added.
    public let changes: [String]
    /// The version that this program writes.
    public var version: Int { changes.count }

    public init(_ name: String, _ changes: [String]) {
        self.name = name
        self.changes = changes
    }

    /// The parts of the program's features. The program sets them around all that it does, for rooms that know no features
    /// compare what is in the schema with all that is made there.
    @TaskLocal public static var all: [LedgerPart] = []
}
