import Catalog
import Foundation
import Postgres
import Reporting
import SQL

/// Reads the contents of a database, as values by which a backup and its restore are compared.
enum DatabaseContent {
    /// How the rows of a table are read, so that no code of roles that are not trusted runs.
    enum Reading: Sendable, Hashable {
        /// By queries.
        case direct
        /// Only by COPY of the whole table, which plans no query.
        case copy
    }

    /// A relation that is backed up.
    struct Relation: Sendable, Hashable {
        let schema: String
        let name: String
        let kind: String
        /// The size of the table with its TOAST table, in bytes.
        let bytes: Int
        /// The size of the table without its TOAST table, in blocks.
        let pages: Int
        let isHeap: Bool
        let columns: [ContentFingerprint.Column]
        /// The names of the columns that are not generated.
        let storedColumns: [String]
        let definition: String
        var reading = Reading.direct
        /// Whether the fingerprint is computed from the output of COPY (`CopyFingerprint`), not by a query.
        var isOfCopy = false
        /// The encoding of the database. COPY writes the rows in it, because rows that were stored by an earlier version
        /// of PostgreSQL may have bytes that cannot be converted.
        var encoding = "UTF8"
        /// The OID of the relation in the database that was read.
        var id = 0
        /// Changes with TRUNCATE, and with each rewrite of the relation.
        var storage = ""
        /// Changes with each GRANT and ALTER TABLE that changes the relation's row of pg_class. VACUUM and ANALYZE do not
        /// change it.
        var version = ""
        /// The topmost partitioned table, if the server's OIDs decide which partition a row belongs to; otherwise nil.
        /// The rows of such a partition are restored through that table, and may then be in another partition.
        var root: String?

        var path: String { ObjectIdentity(.table, schema: schema, name).description }

        // Compared by schema and name, which are unique in a database.
        static func == (left: Relation, right: Relation) -> Bool {
            left.name.utf8.elementsEqual(right.name.utf8) && left.schema.utf8.elementsEqual(right.schema.utf8)
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(schema)
            hasher.combine(name)
        }

        var hasRows: Bool { kind == "r" }

        /// Whether the table may be stored in slices. Names in the scripts of slices are written in UTF-8.
        var isSliceable: Bool {
            ["UTF8", "SQL_ASCII"].contains(encoding)
                || ([schema, name, root ?? ""] + storedColumns).allSatisfy { $0.utf8.allSatisfy { $0 < 0x80 } }
        }

        /// Whether the rows of the partition are restored through one of these tables.
        func isPartition(of roots: Set<ExactText>) -> Bool { root.map { roots.contains(ExactText($0)) } ?? false }

        /// The end of a COPY statement.
        var toStandardOutput: String { "TO STDOUT (ENCODING \(quoteLiteral(encoding)))" }
    }

    /// SQL for an expression that is `direct` or `copy`, the way in which a table is read. The expression refers to a
    /// row `c` of pg_class and the row `o` of its owner.
    ///
    /// Planning a query on a table can run code of the table's owner: PostgreSQL evaluates the constant parts of the
    /// predicates and expressions of the table's indexes and statistics. The owner may make an index at any time, also
    /// while a backup is made. Such code could fail, wait for ever, change how the rows are printed, or have rows left
    /// out by an index that lacks them. So a table is read by queries only if the owners of the table, of its ancestors
    /// (parents and partitioned tables), and of the functions that its indexes and statistics call are all trusted, and
    /// these expressions convert no values to domains, whose CHECK constraints call functions, too. Relations other
    /// than ordinary tables are always read directly.
    ///
    /// - Parameter trusted: the roles that are trusted in addition to superusers and the reading role.
    private static func reading(trusting trusted: [String], server: Int) -> String {
        let names = trusted.map { quoteLiteral($0) }.joined(separator: ", ")
        func isTrusted(_ role: String) -> String {
            "(\(role).rolsuper OR \(role).rolname = current_user OR \(role).rolname = ANY (ARRAY[\(names)]::text[]))"
        }
        func isForeign(_ tree: String) -> String {
            """
            EXISTS (SELECT FROM \(RiskyExpression.functions(of: tree)) JOIN pg_roles f ON f.oid = p.proowner
                WHERE NOT \(isTrusted("f"))) OR \(RiskyExpression.mayCheckDomains(tree))
            """
        }
        let statistics =
            server >= 140_000
            ? "OR EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid AND (\(isForeign("s.stxexprs"))))"
            : ""
        return """
            CASE WHEN c.relkind <> 'r' THEN 'direct'
                WHEN NOT \(isTrusted("o")) THEN 'copy'
                WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (
                        \(isForeign("i.indexprs")) OR \(isForeign("i.indpred"))))
                    \(statistics) THEN 'copy'
                WHEN EXISTS (
                    WITH RECURSIVE above (id) AS (
                        SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = c.oid
                        UNION SELECT i.inhparent FROM pg_inherits i JOIN above a ON i.inhrelid = a.id)
                    SELECT FROM above a JOIN pg_class p ON p.oid = a.id JOIN pg_roles r ON r.oid = p.relowner
                    WHERE NOT \(isTrusted("r"))) THEN 'copy'
                ELSE 'direct' END
            """
    }

    /// An SQL condition: whether the partition `c` has an ancestor whose rows are distributed by OIDs, which differ in
    /// each database. This is so for hash partitions by an enum, or by an array, range or record, which may contain an
    /// enum; and for all partitions by types such as regclass.
    static let isRoutedByOID = """
        EXISTS (SELECT FROM pg_partition_ancestors(c.oid) a JOIN pg_partitioned_table pt ON pt.partrelid = a
            CROSS JOIN unnest(pt.partclass::oid[]) k JOIN pg_opclass oc ON oc.oid = k
            JOIN pg_type t ON t.oid = oc.opcintype
            WHERE oc.opcintype = 'oid'::regtype OR pt.partstrat = 'h' AND t.typtype IN ('p', 'e'))
        """

    /// An SQL condition: the relation `c` in the schema `n` is a table or a sequence that is dumped. An extension's own
    /// table is dumped where the extension says that users fill it.
    static let isBackedUp = """
        c.relkind IN ('r', 'p', 'S') AND \(UserSchemas.condition("n.nspname"))
            AND c.relpersistence <> 't' AND (NOT EXISTS (SELECT FROM pg_depend e
                    WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
                OR EXISTS (SELECT FROM pg_extension x WHERE c.oid = ANY (x.extconfig)))
        """

    /// Returns the tables and sequences that are dumped, outside of PostgreSQL's own schemas.
    ///
    /// - Parameter trusted: the roles that are trusted in addition to superusers and the reading role.
    static func relations(trusting trusted: [String] = [], on connection: isolated Connection) throws -> [Relation] {
        // The columns of partitions with a common `root` are in the order of the columns of that table, so that the
        // hash of a row is the same in every partition.
        let order = """
            ORDER BY (SELECT ra.attnum FROM pg_attribute ra WHERE ra.attrelid = root.oid AND ra.attname = a.attname),
                a.attnum
            """
        let relations = try connection.query(
            """
            SELECT n.nspname::text, c.relname::text, c.relkind::text,
                coalesce(pg_relation_size(c.oid), 0) + coalesce(pg_relation_size(nullif(c.reltoastrelid, 0)), 0),
                coalesce(pg_relation_size(c.oid), 0) / current_setting('block_size')::int,
                coalesce(c.relam = (SELECT oid FROM pg_am WHERE amname = 'heap'), false),
                ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
                    AND NOT a.attisdropped AND a.attgenerated = '' \(order)),
                ARRAY(SELECT a.attname::text FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \(order)),
                ARRAY(SELECT format_type(a.atttypid, NULL) FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \(order)),
                coalesce((SELECT md5(string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
                    a.attgenerated), ',' ORDER BY a.attnum)) FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), ''),
                \(reading(trusting: trusted, server: connection.serverVersion)), pg_relation_filenode(c.oid)::text, c.oid,
                c.xmin::text,
                root.schema, root.name, current_setting('server_encoding')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
            LEFT JOIN LATERAL (
                SELECT r.oid, rn.nspname::text AS schema, r.relname::text AS name FROM pg_partition_ancestors(c.oid) a
                    JOIN pg_class r ON r.oid = a JOIN pg_namespace rn ON rn.oid = r.relnamespace
                WHERE c.relkind = 'r' AND c.relispartition AND NOT r.relispartition AND \(isRoutedByOID)) root ON true
            WHERE \(isBackedUp) ORDER BY 1, 2
            """
        ).map { row in
            let columns = zip(try row.get(7, as: [String].self), try row.get(8, as: [String].self))
            return Relation(
                schema: try row.get(0), name: try row.get(1), kind: try row.get(2), bytes: try row.get(3),
                pages: try row.get(4), isHeap: try row.get(5),
                columns: columns.map { ContentFingerprint.Column($0, type: $1) }, storedColumns: try row.get(6),
                definition: try row.get(9),
                reading: try row.get(10, as: String.self) == "direct" ? .direct : .copy,
                encoding: try row.get(16), id: try row.get(12),
                storage: try row.get(11, as: String?.self) ?? "", version: try row.get(13),
                root: try row.get(14, as: String?.self).map {
                    ObjectIdentity(.table, schema: $0, try row.get(15)).description
                })
        }
        return Self.aligned(relations)
    }

    /// All partitions with a common root are read in the same way, because their fingerprints are added.
    private static func aligned(_ relations: [Relation]) -> [Relation] {
        let roots = Set(relations.filter { $0.reading == .copy }.compactMap { $0.root.map(ExactText.init) })
        return relations.map { relation in
            var relation = relation
            if relation.isPartition(of: roots) { relation.reading = .copy }
            relation.isOfCopy = relation.reading == .copy
            return relation
        }
    }

    /// Returns the value of each sequence, by the path of the sequence.
    static func sequenceValues(
        _ relations: [Relation], on connection: isolated Connection
    ) throws -> [ExactText: Manifest.Sequence] {
        let sequences = relations.filter { $0.kind == "S" }
        var values: [ExactText: Manifest.Sequence] = [:]
        for start in stride(from: 0, to: sequences.count, by: 200) {
            let some = Array(sequences[start..<min(start + 200, sequences.count)])
            let selects = some.enumerated().map { "SELECT \($0), last_value, is_called FROM \($1.path)" }
            for row in try connection.query(selects.joined(separator: " UNION ALL ")) {
                let sequence = some[try row.get(0, as: Int.self)]
                values[ExactText(sequence.path)] = Manifest.Sequence(
                    schema: sequence.schema, name: sequence.name, value: try row.get(1), isCalled: try row.get(2))
            }
        }
        return values
    }

    /// The requirements that a server must meet before this database can be restored into it.
    struct Needs: Sendable {
        let extensions: [String: String]
        let tablespaces: [String]
        let roles: [String]
        let locale: DatabaseLocale
        let bytes: Int
    }

    static func needs(on connection: isolated Connection) throws -> Needs {
        let extensions = try connection.query("SELECT extname::text, extversion FROM pg_extension ORDER BY 1").map {
            (try $0.get(0, as: String.self), try $0.get(1, as: String.self))
        }
        let tablespaces = try connection.query(
            """
            SELECT DISTINCT t.spcname::text FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace
            WHERE t.spcname <> 'pg_global' ORDER BY 1
            """)
        let roles = try connection.query(
            """
            SELECT DISTINCT r.rolname::text FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
            WHERE d.refclassid = 'pg_authid'::regclass AND r.rolname !~ '^pg_'
                AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1
            """)
        let bytes: Int =
            try connection.query("SELECT pg_database_size(current_database())").first?.get(0) ?? 0
        return Needs(
            extensions: Dictionary(extensions) { first, _ in first },
            tablespaces: try tablespaces.map { try $0.get(0) },
            roles: try roles.map { try $0.get(0) }, locale: try DatabaseLocale.read(on: connection), bytes: bytes)
    }

    /// Returns the number and the fingerprint of the large objects; nil if the role may not read them.
    static func largeObjects(on connection: isolated Connection) throws -> Manifest.LargeObjects? {
        let mayRead: Bool =
            try connection.query("SELECT has_table_privilege('pg_largeobject', 'SELECT')").first?.get(0) ?? false
        guard mayRead else { return nil }
        let count: Int =
            try connection.query("SELECT count(*) FROM pg_largeobject_metadata").first?.get(0) ?? 0
        try ContentFingerprint.pinSettings(on: connection)
        let columns = [("loid", "oid"), ("pageno", "integer"), ("data", "bytea")]
        let print = try ContentFingerprint.read(
            .init(
                ObjectIdentity(.table, schema: "pg_catalog", "pg_largeobject"),
                columns: columns.map { .init($0, type: $1) }), on: connection)
        return Manifest.LargeObjects(count: count, digest: print.digest)
    }

    /// Returns the definitions of the objects that a dump restores, as canonical text. Reeve's own schema is included.
    /// The header of the text contains the other properties (`DatabaseAttributes`).
    static func schema(_ snapshot: String?, on connection: isolated Connection) throws -> String {
        let names = try connection.query(
            "SELECT nspname::text FROM pg_namespace WHERE \(UserSchemas.condition("nspname"))")
        var reader = CatalogReader(.schemas(Set(try names.map { ExactText(try $0.get(0)) })), owner: "")
        reader.snapshot = snapshot
        // A restored subscription is disabled, so that it does not take the changes meant for its source.
        reader.readsSubscriptions = false
        let catalog = try reader.read(on: connection)
        var options = TransactionOptions(isolation: .repeatableRead, readOnly: true)
        options.lockTimeout = .seconds(10)
        options.preamble =
            (snapshot.map { ["SET TRANSACTION SNAPSHOT \(quoteLiteral($0))"] } ?? []) + CatalogReader.pins
        let attributes = try connection.transaction(options) { try DatabaseAttributes.read(on: connection) }
        return SchemaSnapshot.text(of: catalog, notes: [(DatabaseAttributes.note, attributes.text)])
    }

    /// Returns the roles with their attributes and memberships, one line each.
    static func roles(on connection: isolated Connection) throws -> [String] {
        // Since version 16, several roles may grant a membership, each with options.
        let options =
            connection.serverVersion < 160_000
            ? "''"
            : """
            CASE WHEN bool_or(m.inherit_option) = r.rolinherit THEN '' WHEN r.rolinherit THEN ' NOINHERIT'
                ELSE ' INHERIT' END || CASE WHEN bool_or(m.set_option) THEN '' ELSE ' NOSET' END
            """
        return try connection.query(
            """
            SELECT r.rolname || ': ' || concat_ws(' ', CASE WHEN rolsuper THEN 'SUPERUSER' END,
                CASE WHEN rolinherit THEN 'INHERIT' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
                CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcanlogin THEN 'LOGIN' END,
                CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
                'CONNECTION LIMIT ' || rolconnlimit, 'VALID UNTIL ' || rolvaliduntil,
                (SELECT 'IN ' || string_agg(i.role, ', ' ORDER BY i.rolname) FROM (
                    SELECT g.rolname, g.rolname || CASE WHEN bool_or(m.admin_option) THEN '*' ELSE '' END || \(options) AS role
                    FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                    WHERE m.member = r.oid GROUP BY g.rolname) i),
                (SELECT 'SET ' || string_agg(s, ', ' ORDER BY s COLLATE "C") FROM unnest(r.rolconfig) s))
            FROM pg_roles r WHERE rolname !~ '^pg_' ORDER BY rolname
            """
        ).map { try $0.get(0) }
    }

    /// Returns the settings of ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET as statements. pg_dump writes
    /// them only with CREATE DATABASE.
    ///
    /// - Returns: `accepted`: the statements. `leftOut`: descriptions of the settings that `DatabaseSetting` does not
    ///   accept, and that a backup leaves out. There may be some, because any role can set odd values for itself in any
    ///   database that it may connect to.
    static func settings(on connection: isolated Connection) throws -> (accepted: [String], leftOut: [String]) {
        let rows = try connection.query(
            """
            SELECT CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole)::text END, textsend(c)
            FROM pg_db_role_setting s, unnest(s.setconfig) c
            WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
            """)
        var (accepted, leftOut): ([String], [String]) = ([], [])
        for row in rows {
            let (role, bytes): (String?, Bytes) = (try row.get(0), try row.get(1))
            if bytes.bytes.starts(with: "\(ClosedDatabase.setting)=".utf8) { continue }
            // A setting that was made in a database of another encoding can contain any bytes.
            if let text = String(validating: bytes.bytes, as: UTF8.self),
                case let statement = DatabaseSetting.statement(role: role, configuration: text),
                DatabaseSetting(statement) != nil
            {
                accepted.append(statement)
            } else {
                let name = bytes.bytes.prefix { $0 != UInt8(ascii: "=") }
                leftOut.append(
                    String(decoding: name, as: UTF8.self) + (role.map { " of the role \(visible($0))" } ?? ""))
            }
        }
        return (accepted.sorted(), leftOut.sorted())
    }
}
