import Catalog
import Foundation
import Ledger
import Postgres

/// What a database holds, in values that a backup and its restore are compared by.
enum DatabaseContent {
    /// A relation that is backed up.
    struct Relation: Sendable, Hashable {
        let schema: String
        let name: String
        let kind: String
        let bytes: Int
        let columns: [String]
        let definition: String

        var path: String { ObjectIdentity(.table, schema: schema, name).description }
        var hasRows: Bool { kind == "r" }
    }

    /// Tables, sequences and what else is dumped, outside of PostgreSQL's own schemas.
    static func relations(on connection: isolated Connection) throws -> [Relation] {
        try connection.query(
            """
            SELECT n.nspname::text, c.relname::text, c.relkind::text, coalesce(pg_relation_size(c.oid), 0),
                ARRAY(SELECT a.attname::text FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
                coalesce((SELECT md5(string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
                    a.attgenerated), ',' ORDER BY a.attnum)) FROM pg_attribute a
                    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '')
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'S') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                AND c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM pg_depend e
                    WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
            ORDER BY 1, 2
            """
        ).map {
            Relation(
                schema: try $0.get(0), name: try $0.get(1), kind: try $0.get(2), bytes: try $0.get(3),
                columns: try $0.get(4), definition: try $0.get(5))
        }
    }

    /// The fingerprint of a table, in the open transaction.
    static func fingerprint(_ relation: Relation, on connection: isolated Connection) throws -> Manifest.Table {
        let print = try ContentFingerprint.read(
            ObjectIdentity(.table, schema: relation.schema, relation.name), columns: relation.columns, on: connection)
        return Manifest.Table(
            schema: relation.schema, name: relation.name, rows: print.rows, digest: print.digest,
            definition: relation.definition)
    }

    static func sequenceValues(
        _ relations: [Relation], on connection: isolated Connection
    ) throws -> [String: Int64?] {
        var values: [String: Int64?] = [:]
        for sequence in relations where sequence.kind == "S" {
            values[sequence.path] = try connection.query(
                "SELECT CASE WHEN is_called THEN last_value END FROM \(sequence.path)"
            ).first?.get(0, as: Int64?.self)
        }
        return values
    }

    /// nil where the role may not read them.
    static func largeObjects(on connection: isolated Connection) throws -> Manifest.LargeObjects? {
        let mayRead: Bool =
            try connection.query("SELECT has_table_privilege('pg_largeobject', 'SELECT')").first?.get(0) ?? false
        guard mayRead else { return nil }
        let count: Int =
            try connection.query("SELECT count(*) FROM pg_largeobject_metadata").first?.get(0) ?? 0
        let print = try ContentFingerprint.read(
            ObjectIdentity(.table, schema: "pg_catalog", "pg_largeobject"), columns: ["loid", "pageno", "data"],
            on: connection)
        return Manifest.LargeObjects(count: count, digest: print.digest)
    }

    /// The schema as canonical text, Reeve's own included; only what a dump brings back.
    static func schema(_ snapshot: String?, on connection: isolated Connection) throws -> String {
        let names = try connection.query(
            "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'")
        var reader = CatalogReader(.schemas(Set(try names.map { try $0.get(0) })), owner: "")
        reader.snapshot = snapshot
        return SchemaSnapshot.text(of: try reader.read(on: connection))
    }

    /// The roles with their attributes and memberships, one line each.
    static func roles(on connection: isolated Connection) throws -> [String] {
        try connection.query(
            """
            SELECT r.rolname || ': ' || concat_ws(' ', CASE WHEN rolsuper THEN 'SUPERUSER' END,
                CASE WHEN rolinherit THEN 'INHERIT' END, CASE WHEN rolcreaterole THEN 'CREATEROLE' END,
                CASE WHEN rolcreatedb THEN 'CREATEDB' END, CASE WHEN rolcanlogin THEN 'LOGIN' END,
                CASE WHEN rolreplication THEN 'REPLICATION' END, CASE WHEN rolbypassrls THEN 'BYPASSRLS' END,
                'CONNECTION LIMIT ' || rolconnlimit, 'VALID UNTIL ' || rolvaliduntil,
                (SELECT 'IN ' || string_agg(g.rolname || CASE WHEN m.admin_option THEN '*' ELSE '' END, ', '
                    ORDER BY g.rolname) FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
                    WHERE m.member = r.oid),
                (SELECT 'SET ' || string_agg(s, ', ' ORDER BY s COLLATE "C") FROM unnest(r.rolconfig) s))
            FROM pg_roles r WHERE rolname !~ '^pg_' ORDER BY rolname
            """
        ).map { try $0.get(0) }
    }

    /// ALTER DATABASE … SET and ALTER ROLE … IN DATABASE … SET, which pg_dump writes only with CREATE DATABASE.
    static func settings(on connection: isolated Connection) throws -> [String] {
        try connection.query(
            """
            SELECT 'ALTER ' || CASE WHEN s.setrole = 0 THEN '' ELSE 'ROLE ' || quote_ident(pg_get_userbyid(s.setrole))
                || ' IN ' END || 'DATABASE %database% SET ' || quote_ident(split_part(c, '=', 1)) || ' TO '
                || CASE WHEN lower(split_part(c, '=', 1)) IN ('search_path', 'temp_tablespaces',
                    'session_preload_libraries', 'local_preload_libraries') THEN substr(c, strpos(c, '=') + 1)
                    ELSE quote_literal(substr(c, strpos(c, '=') + 1)) END
            FROM pg_db_role_setting s, unnest(s.setconfig) c
            WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())
            ORDER BY 1
            """
        ).map { try $0.get(0) }
    }
}
