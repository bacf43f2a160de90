import Postgres
import SQL

/// Inheritance between restored tables and tables that are not restored with them.
///
/// A partition, or a table that inherits from another, can only be created as such if its parent exists. So if the
/// target lacks the parent, or if the table is restored into another schema, the table is made independent in the
/// scratch server, before its definition is copied.
struct Parentage: Sendable {
    private struct Link: Sendable {
        let child: FetchedTable
        let parent: FetchedTable
        let isPartition: Bool

        var separation: String {
            isPartition
                ? "ALTER TABLE \(parent.path) DETACH PARTITION \(child.path)"
                : "ALTER TABLE \(child.path) NO INHERIT \(parent.path)"
        }

        func note(_ reason: String) -> String {
            let what =
                isPartition
                ? "a partition of \(parent.path), and has the foreign keys and triggers of that table"
                : "a child of \(parent.path)"
            return "\(child.path) was restored as an independent table, because \(reason); in the backup, it is \(what)"
        }
    }

    private let links: [Link]
    private let scratch: ConnectionSettings

    /// Finds the parents that are not among the tables.
    init(of tables: [FetchedTable], scratch: ConnectionSettings) async throws {
        self.scratch = scratch
        let known = Set(tables)
        links = try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT n.nspname::text, c.relname::text, m.nspname::text, p.relname::text, c.relispartition
                    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
                        JOIN pg_class p ON p.oid = i.inhparent JOIN pg_namespace m ON m.oid = p.relnamespace
                    WHERE c.relkind IN ('r', 'p') ORDER BY 1, 2, i.inhseqno
                    """
                ).map { row in
                    Link(
                        child: FetchedTable(schema: try row.get(0), name: try row.get(1)),
                        parent: FetchedTable(schema: try row.get(2), name: try row.get(3)),
                        isPartition: try row.get(4))
                }
            }
        }.filter { known.contains($0.child) && !known.contains($0.parent) }
    }

    /// Makes the tables independent whose parents the target lacks; all of them if they move to another schema.
    ///
    /// - Returns: messages about these tables.
    func separate(for target: ConnectionSettings, moves: Bool) async throws -> [String] {
        if links.isEmpty { return [] }
        let links = links
        let apart = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try links.filter { link in
                    if moves { return true }
                    let isThere: Bool? = try connection.query(
                        "SELECT c.relkind = ANY ($2::\"char\"[]) FROM pg_class c WHERE c.oid = to_regclass($1)",
                        [link.parent.path, link.isPartition ? ["p"] : ["r", "f"]]
                    ).first?.get(0)
                    return isThere != true
                }
            }
        }
        try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                for link in apart { try connection.execute(link.separation) }
            }
        }
        return apart.map {
            $0.note(moves ? "it was restored into another schema" : "the target has no such parent")
        }
    }
}
