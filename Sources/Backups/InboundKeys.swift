import Postgres

/// Foreign keys that refer to the restored tables and belong to other tables. These keys were dropped together with the
/// former tables. Only the owners of the other tables can decide whether to create the keys again.
struct InboundKeys: Sendable {
    private let keys: [LateConstraints.Constraint]

    init(_ keys: [LateConstraints.Constraint]) { self.keys = keys }

    /// Describes the keys that are missing in the target, if the table that a key belonged to still exists.
    func missing(in target: ConnectionSettings) async throws -> [String] {
        if keys.isEmpty { return [] }
        return try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try keys.filter { key in
                    let row = try connection.query(
                        """
                        SELECT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.conname = $2)
                        FROM pg_class c WHERE c.oid = to_regclass($1)
                        """, [key.table.path, key.name]
                    ).first
                    return try row.map { try !$0.get(0, as: Bool.self) } ?? false
                }.map { "a foreign key that references a restored table is missing, and was not created: \($0.words)" }
            }
        }
    }
}
