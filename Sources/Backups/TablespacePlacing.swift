import Catalog
import Postgres
import Reporting
import SQL

/// The tablespaces of a restore's target that take the place of the backup's.
///
/// pg_restore restores tables into the default tablespace. They are moved while they are empty. Indexes and constraints
/// are created in their tablespaces (`ArchiveScript.placed`).
struct TablespacePlacing: Sendable {
    /// The tablespaces of the target by the names in the backup; nil: the target has none, so the default is used.
    let names: [ExactText: String?]

    /// Finds the tablespaces: those that `mapping` lists, and otherwise those of the same name.
    init(_ manifest: Manifest, _ mapping: [String: String], in target: ConnectionSettings) async throws {
        if manifest.tablespaces.isEmpty {
            names = [:]
            return
        }
        let there = try await Connection.opened(target.restoring) { connection in
            try await connection.with {
                Set(try $0.query("SELECT spcname::text FROM pg_tablespace").map { ExactText(try $0.get(0)) })
            }
        }
        names = Dictionary(
            manifest.tablespaces.map { name in
                (ExactText(name), mapping[name] ?? (there.contains(ExactText(name)) ? name : nil))
            }
        ) { first, _ in first }
    }

    /// Moves the tables and materialized views to their tablespaces.
    ///
    /// - Parameter catalog: the backup's catalog.
    /// - Returns: messages about the objects that are in the default tablespace instead.
    /// - Throws: `PostgresError`.
    func move(_ catalog: SchemaCatalog, in target: ConnectionSettings) async throws -> [String] {
        var lacking: [ExactText: Int] = [:]
        var moves: [(sql: String, object: String)] = []
        for object in catalog.sorted {
            guard let old = object["tablespace"].map(ExactText.init) else { continue }
            guard let new = names[old] ?? nil else {
                lacking[old, default: 0] += 1
                continue
            }
            guard [.table, .materializedView].contains(object.identity.kind) else { continue }
            let word = object.identity.kind == .table ? "TABLE" : "MATERIALIZED VIEW"
            moves.append(
                ("ALTER \(word) \(object.identity.path) SET TABLESPACE \(quoteIdentifier(new))", object.identity.path))
        }
        let statements = moves
        let refused = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                var refused: [String] = []
                for (sql, object) in statements {
                    do { try connection.execute(sql) } catch let error as PostgresError where error.sqlState == "42501"
                    {
                        refused.append("\(visible(object)) is in the default tablespace: \(error.message)")
                    }
                }
                return refused
            }
        }
        return refused
            + lacking.sorted { $0.key < $1.key }.map {
                "the target has no tablespace '\(visible($0.key.text))'; \(counted($0.value, "object")) of it went to "
                    + "the default tablespace; name another one with --tablespace \(visible($0.key.text))=NAME"
            }
    }
}
