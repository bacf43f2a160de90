import Catalog
import Postgres
import SQL

/// Checks, before anything is written, whether a target can accept tables from a scratch server.
struct DeliveryCheck: Sendable {
    let tables: [FetchedTable]
    let selection: PartialRestore.Selection
    let scratch: ConnectionSettings
    let target: ConnectionSettings
    let trust: CodeTrust
    /// The objects that are created with the tables.
    let needed: NeededObjects

    /// - Returns: the schemas that expressions of the tables use. The transaction that creates the tables has to check
    ///   them again (`CodeTrust.guarding(schemas:)`). Empty if the restoring role is not a superuser, or if all roles
    ///   are trusted.
    /// - Throws: `BackupError.targetHas`, `.unfinished`, `.targetLacks`, `.risky`, `.untrusted`, `.openSchema`;
    ///   `PostgresError`.
    func run() async throws -> [String] {
        try await checkNames()
        try await checkRoles()
        guard try await Confinement.isSuperuser(in: target.restoring) else { return [] }
        try await trust.check(in: scratch, tables: Set(tables), areChecked: true)
        try await checkExpressions()
        return try await checkSchemas()
    }

    /// Refuses tables whose expressions use a schema in which a role that is not trusted has objects or may create
    /// them. PostgreSQL evaluates the constant parts of a generated column or a partition key as soon as a table is
    /// created or attached to a parent. It resolves the names of functions in the target, so it could call code of that
    /// role.
    private func checkSchemas() async throws -> [String] {
        guard case .roles(let trusted) = trust else { return [] }
        let used = try await Connection.opened(scratch) { connection in
            try await connection.with { connection in
                try connection.query(
                    """
                    WITH made AS (
                        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS path FROM pg_class c
                            JOIN pg_namespace n ON n.oid = c.relnamespace
                        WHERE format('%I.%I', n.nspname, c.relname) = ANY ($1::text[])
                    ), called AS (
                        SELECT m.path, d.refclassid, d.refobjid FROM made m JOIN pg_depend d
                            ON d.classid = 'pg_class'::regclass AND d.objid = m.oid
                        UNION SELECT m.path, d.refclassid, d.refobjid FROM made m
                            JOIN pg_attribute a ON a.attrelid = m.oid AND a.attgenerated <> ''
                            JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
                            JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
                    ), lying AS (
                        SELECT c.path, p.pronamespace AS schema FROM called c
                            JOIN pg_proc p ON c.refclassid = 'pg_proc'::regclass AND p.oid = c.refobjid
                        UNION SELECT c.path, o.oprnamespace FROM called c
                            JOIN pg_operator o ON c.refclassid = 'pg_operator'::regclass AND o.oid = c.refobjid
                        -- A cast has no schema; whoever makes one owns a type.
                        UNION SELECT c.path, t.typnamespace FROM called c
                            JOIN pg_type t ON c.refclassid = 'pg_type'::regclass AND t.oid = c.refobjid
                        UNION SELECT m.path, r.relnamespace FROM made m JOIN pg_inherits i ON i.inhrelid = m.oid
                            JOIN pg_class r ON r.oid = i.inhparent AND r.oid NOT IN (SELECT oid FROM made)
                    )
                    SELECT DISTINCT l.path, n.nspname::text FROM lying l JOIN pg_namespace n ON n.oid = l.schema
                    WHERE n.nspname <> 'pg_catalog' ORDER BY 1, 2
                    """, [tables.map(\.path)]
                ).map { (path: try $0.get(0, as: String.self), schema: try $0.get(1, as: String.self)) }
            }
        }
        // PostgreSQL resolves the names in the definitions of these objects in the target, too.
        let all = used + needed.schemas.map { (path: tables.first?.path ?? "", schema: $0) }
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                for one in all {
                    let others = try SystemPath.intruders(in: one.schema, trusted: trusted, on: connection)
                    if let role = others.first {
                        throw BackupError.openSchema(table: one.path, schema: one.schema, role: role)
                    }
                }
            }
        }
        return Set(all.map { ExactText($0.schema) }).map(\.text).sorted()
    }

    /// Checks that the names of the tables are free in the target.
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
                // Only a restore into the original schemas can be continued: a restore into another schema makes no
                // late constraints.
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

    /// Checks that the target has the roles that the tables refer to.
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
        try await Self.require(roles: roles, in: target.restoring)
    }

    /// - Throws: `BackupError.targetLacks` for roles that do not exist.
    static func require(roles: [String], in target: ConnectionSettings) async throws {
        let known = try await Connection.opened(target) { connection in
            try await connection.with { try Restorer.roles(on: $0) }
        }
        let lacking = Set(roles.map(ExactText.init)).subtracting(known).sorted()
        if !lacking.isEmpty { throw BackupError.targetLacks(lacking.map { "the role \($0.text)" }) }
    }

    /// Refuses tables with risky expressions (`RiskyExpression`). The tables and their rows are restored in one
    /// transaction of a database that is in use, so no constraint can be suspended before the rows are inserted.
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
