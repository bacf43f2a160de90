import Catalog
import Postgres

/// Looks, before anything is written, whether a target can take tables from a scratch server.
struct DeliveryCheck: Sendable {
    let tables: [FetchedTable]
    let selection: PartialRestore.Selection
    let scratch: ConnectionSettings
    let target: ConnectionSettings
    let trust: CodeTrust

    /// - Throws: `BackupError.targetHas`, `.unfinished`, `.targetLacks`, `.risky`, `.untrusted`; `PostgresError`.
    func run() async throws {
        try await checkNames()
        try await checkRoles()
        guard try await Confinement.isSuperuser(in: target.restoring) else { return }
        try await trust.check(in: scratch, tables: Set(tables), areChecked: true)
        try await checkExpressions()
    }

    /// Whether there is room for the tables.
    private func checkNames() async throws {
        let names = tables.map(\.path)
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                let there: [String] = try connection.query(
                    """
                    SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n
                        ON n.oid = c.relnamespace WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[])
                    """, [names]
                ).map { try $0.get(0) }
                if there.isEmpty { return }
                // Of tables that have gone elsewhere no constraint is made later.
                if selection.intoSchema == nil,
                    let record = try UnfinishedRestore.own(on: connection).first(where: { $0.isOf(selection) })
                {
                    throw BackupError.unfinished(
                        names: there, backup: record.backup, missing: record.missingNames, schema: record.schema)
                }
                throw BackupError.targetHas(there)
            }
        }
    }

    /// Whether the roles of the tables are there.
    private func checkRoles() async throws {
        let roles: [String] = try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    SELECT DISTINCT r.rolname::text FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
                    WHERE d.refclassid = 'pg_authid'::regclass AND d.classid = 'pg_class'::regclass AND d.objid IN
                        (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                            WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[]))
                    """, [tables.map(\.path)]
                ).map { try $0.get(0) }
            }
        }
        let known: [String] = try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                try connection.query("SELECT rolname::text FROM pg_roles").map { try $0.get(0) }
            }
        }
        let lacking = Set(roles).subtracting(known).sorted()
        if !lacking.isEmpty { throw BackupError.targetLacks(lacking.map { "the role \($0)" }) }
    }

    /// Into a database that is in use, tables and rows come in one go, and no constraint can be suspended in between.
    private func checkExpressions() async throws {
        let risky = try await Connection.opened(scratch) { connection in
            try await connection.with { try RiskyTables.read(on: $0) }
        }
        for table in tables {
            if let what = risky[ObjectIdentity(.table, schema: table.schema, table.name)] {
                throw BackupError.risky(table: table.path, what: what)
            }
        }
    }
}
