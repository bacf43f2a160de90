import Catalog
import Postgres
import SQL

/// The roles whose functions may run in a superuser's sessions while rows are restored.
///
/// PostgreSQL evaluates the expressions of generated columns and partition keys when a row is inserted. `Confinement`
/// makes functions of other roles run with the rights of their owners. `Confinement` cannot undo what these functions
/// leave in the session: settings, such as `search_path` and `standard_conforming_strings`, under which later
/// statements are parsed, and cursors WITH HOLD and deferred triggers, which run at COMMIT with the rights of the
/// superuser. So functions of roles that are not trusted are not run at all. A backup that contains such functions is
/// refused before the restore begins (`ArchiveCode`), and so are tables that would call such functions of the target.
///
/// Expressions of other kinds need no such check. CHECK constraints are suspended while rows are inserted; CHECK
/// constraints that are added later, and foreign keys, are checked in separate sessions; and PostgreSQL builds indexes
/// and materialized views in a security-restricted operation.
public enum CodeTrust: Sendable, Equatable {
    /// All roles are trusted. This is only for a server that is discarded afterwards. The server's files and processes
    /// must belong to an account that owns nothing else.
    case everybody
    /// These roles, and superusers.
    case roles([String])

    /// Refuses tables if inserting rows into them would call functions of roles that are not trusted. To be called when
    /// the tables exist, and before their rows are inserted.
    ///
    /// - Parameters:
    ///   - tables: the tables that get rows; nil: all tables.
    ///   - areChecked: whether CHECK constraints are enforced while rows are inserted. If so, the functions that these
    ///     constraints call are checked, too.
    /// - Throws: `BackupError.untrusted`; `PostgresError`.
    func check(
        in target: ConnectionSettings, tables: Set<FetchedTable>? = nil, areChecked: Bool = false
    ) async throws {
        guard case .roles(let trusted) = self else { return }
        try await Connection.opened(target.restoring) { connection in
            try await connection.with { connection in
                guard try Confinement.isSuperuser(on: connection) else { return }
                let sql = Self.untrusted(trusted, among: areChecked ? Self.evaluatedOrChecked : Self.evaluated)
                for row in try connection.query("SELECT * FROM (\(sql)) f ORDER BY 1, 2, 3, 4") {
                    let table = FetchedTable(schema: try row.get(0), name: try row.get(1))
                    if let tables, !tables.contains(table) { continue }
                    throw BackupError.untrusted(
                        table: table.path, what: try row.get(2), role: try row.get(3))
                }
            }
        }
    }

    /// A query for the expressions that are evaluated when a row is inserted. Its columns: the OID of the relation, a
    /// description of the expression, and the expression tree.
    private static let evaluated = """
        SELECT a.attrelid, 'the generated column ' || a.attname, d.adbin FROM pg_catalog.pg_attribute a
            JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
        WHERE a.attgenerated <> ''
        UNION ALL SELECT t.partrelid, 'the partition key', t.partexprs FROM pg_catalog.pg_partitioned_table t
        WHERE t.partexprs IS NOT NULL
        """

    /// The query `evaluated`, with the expressions of CHECK constraints in addition.
    private static let evaluatedOrChecked = """
        \(evaluated)
        UNION ALL SELECT k.conrelid, 'the constraint ' || k.conname, k.conbin FROM pg_catalog.pg_constraint k
        WHERE k.contype = 'c' AND k.conrelid <> 0
        """

    /// A query that finds the expressions that call functions of untrusted roles. Its columns: schema, table,
    /// description of the expression, owner of the function.
    private static func untrusted(_ trusted: [String], among expressions: String, of tables: String = "true") -> String
    {
        """
        SELECT n.nspname::pg_catalog.text, c.relname::pg_catalog.text, e.what::pg_catalog.text, o.rolname::pg_catalog.text
        FROM (\(expressions)) AS e (id, what, tree) JOIN pg_catalog.pg_class c ON c.oid = e.id
            JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            CROSS JOIN LATERAL (
                SELECT p.proowner FROM \(RiskyExpression.functions(of: "e.tree"))) f
            JOIN pg_catalog.pg_roles o ON o.oid = f.proowner
        WHERE \(isUntrusted(trusted)) AND \(tables)
        """
    }

    /// SQL for a condition on a row `o` of pg_roles: the role is not trusted.
    static func isUntrusted(_ trusted: [String]) -> String {
        let names = trusted.map { quoteLiteral($0) }.joined(separator: ", ")
        return "NOT o.rolsuper AND o.rolname <> ALL (ARRAY[\(names)]::pg_catalog.name[])"
    }

    /// Returns a script that fails if one of the schemas does not exist, or if a role that is not trusted owns one of
    /// them, owns objects in one of them, or may create objects there. The script runs in the transaction that then
    /// creates tables whose expressions use the schemas, because another session may have created a schema since an
    /// earlier check.
    func guarding(schemas: [String]) -> String {
        guard case .roles(let trusted) = self, !schemas.isEmpty else { return "" }
        let tag = Self.tag()
        let names = schemas.map { quoteLiteral($0) }.joined(separator: ", ")
        return """
            DO \(tag)
            DECLARE
                one record;
            BEGIN
                FOR one IN
                    SELECT s.name, r.rolname FROM pg_catalog.unnest(ARRAY[\(names)]::pg_catalog.text[]) AS s (name)
                        LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = s.name
                        LEFT JOIN LATERAL (
                            SELECT o.rolname FROM (
                                SELECT r.rolname, r.rolsuper FROM \(SystemPath.residents)) AS o
                            WHERE \(Self.isUntrusted(trusted)) LIMIT 1) r ON true
                    WHERE n.oid IS NULL OR r.rolname IS NOT NULL
                LOOP
                    IF one.rolname IS NULL THEN
                        RAISE EXCEPTION 'schema "%" does not exist', one.name USING ERRCODE = 'invalid_schema_name';
                    END IF;
                    RAISE EXCEPTION 'the schema % is used by a definition, and the role %, which is not trusted, has objects '
                        'in it or may create them', one.name, one.rolname USING ERRCODE = 'insufficient_privilege';
                END LOOP;
            END \(tag);

            """
    }

    /// Returns a dollar-quote tag that no name contains.
    private static func tag() -> String { "$reeve_\(String(UInt64.random(in: .min ... .max), radix: 36))$" }

    /// SQL for a condition on a row `c` of pg_class: the relation is one of the tables in the PL/pgSQL array `made`, or
    /// a partitioned table above one of these tables.
    private static let madeOrAbove = """
        (c.oid = ANY (made) OR EXISTS (
            SELECT FROM pg_catalog.unnest(made) AS m (id)
                CROSS JOIN LATERAL pg_catalog.pg_partition_ancestors(m.id::pg_catalog.regclass) a
            WHERE a.relid = c.oid))
        """

    /// Returns a script that fails if a row of the new tables would call a function of a role that is not trusted. The
    /// script runs in the transaction that has created the tables in a database that is in use.
    ///
    /// The script also fails in two other cases:
    /// - An expression is risky (`RiskyExpression`). Constraints that the tables inherit from a parent in the target
    ///   were not checked before.
    /// - A parent in the target belongs to a role that is not trusted. The tables then have the triggers and keys of
    ///   that parent.
    ///
    /// - Parameter tables: the paths of the tables.
    func guarding(_ tables: [String]) -> String {
        guard case .roles(let trusted) = self else { return "" }
        let tag = Self.tag()
        let made = tables.map { "\(quoteLiteral($0))::pg_catalog.regclass" }.joined(separator: ", ")
        return """
            DO \(tag)
            DECLARE
                made oid[] := ARRAY[\(made)]::pg_catalog.oid[];
                one record;
            BEGIN
                -- A row of a partition meets the keys of all above it.
                FOR one IN \(Self.untrusted(trusted, among: Self.evaluatedOrChecked, of: Self.madeOrAbove))
                LOOP
                    RAISE EXCEPTION '%.%: % calls a function of the role %, which is not trusted',
                        one.nspname, one.relname, one.what, one.rolname USING ERRCODE = 'insufficient_privilege';
                END LOOP;
                FOR one IN
                    SELECT n.nspname, c.relname, e.what FROM (\(Self.evaluatedOrChecked)) AS e (id, what, tree)
                        JOIN pg_catalog.pg_class c ON c.oid = e.id JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                    WHERE c.oid = ANY (made) AND \(RiskyExpression.isRisky("e.tree"))
                LOOP
                    RAISE EXCEPTION '%.%: % would run with the rights of a superuser',
                        one.nspname, one.relname, one.what USING ERRCODE = 'insufficient_privilege';
                END LOOP;
                FOR one IN
                    SELECT c.relname, p.relname AS parent, o.rolname FROM pg_catalog.pg_inherits i
                        JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid JOIN pg_catalog.pg_class p ON p.oid = i.inhparent
                        JOIN pg_catalog.pg_roles o ON o.oid = p.relowner
                    WHERE i.inhrelid = ANY (made) AND i.inhparent <> ALL (made) AND \(Self.isUntrusted(trusted))
                LOOP
                    RAISE EXCEPTION '% is a child of %, which is there and belongs to the role %, which is not trusted',
                        one.relname, one.parent, one.rolname USING ERRCODE = 'insufficient_privilege';
                END LOOP;
            END \(tag);

            """
    }
}
