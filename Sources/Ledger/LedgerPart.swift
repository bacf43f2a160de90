/// The tables of a feature in the ledger, with their own versions. They are declared next to the code that reads them.
///
///     static let part = LedgerPart("queues", ["CREATE TABLE reeve.queues (…);", "ALTER TABLE reeve.queues …;"])
///
/// The objects of all parts are in the schema `reeve`, so the names of a part's objects begin with the part's name.
/// Functions must be PL/pgSQL with `SET search_path = pg_catalog, pg_temp`; `LedgerTrust` refuses any other function as
/// foreign.
public struct LedgerPart: Sendable {
    public let name: String
    /// The statements that upgrade each version to the next. Released entries are never changed; new ones are appended.
    public let changes: [String]
    /// The version that this program installs.
    public var version: Int { changes.count }

    public init(_ name: String, _ changes: [String]) {
        self.name = name
        self.changes = changes
    }

    /// The parts of all features of the program. The program sets this value for everything that it runs. Modules that
    /// do not depend on features need the value, because they compare the content of the schema with everything that
    /// the program creates there.
    @TaskLocal public static var all: [LedgerPart] = []
}
