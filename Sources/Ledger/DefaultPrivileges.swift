import Postgres

/// Revokes what ALTER DEFAULT PRIVILEGES grants on new objects of the ledger.
///
/// Default privileges are meant for the tables of applications. On the ledger, TRIGGER would let a role run code with
/// the rights of the roles that write to the ledger, and UPDATE on a sequence would let it stop all writes.
enum DefaultPrivileges {
    /// The relations of the ledger, by OID.
    static func relations(on connection: isolated Connection) throws -> [Int] {
        try connection.query(
            "SELECT c.oid::bigint FROM pg_catalog.pg_class c WHERE c.relnamespace = 'reeve'::regnamespace"
        ).map { try $0.get(0) }
    }

    /// Revokes all privileges of other roles on the schema, which has just been created.
    static func revokeOnSchema(on connection: isolated Connection) throws {
        try run(
            """
            SELECT 'SCHEMA reeve', a.grantee::bigint FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
            WHERE n.nspname = 'reeve' AND a.grantee <> n.nspowner
            """, [], on: connection)
    }

    /// Revokes all privileges of other roles on tables and sequences of the ledger.
    ///
    /// - Parameter older: the OIDs of the relations that are left as they are.
    static func revokeOnRelations(except older: [Int], on connection: isolated Connection) throws {
        try run(
            """
            SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END || ' ' || c.oid::regclass::text,
                a.grantee::bigint
            FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a
            WHERE c.relnamespace = 'reeve'::regnamespace AND c.oid::bigint <> ALL ($1::bigint[])
                AND a.grantee <> c.relowner
            """, [older], on: connection)
    }

    /// - Parameter query: returns an object, as REVOKE names it, and the OID of a grantee, in each row.
    private static func run(
        _ query: String, _ parameters: [(any PostgresEncodable)?], on connection: isolated Connection
    ) throws {
        let statements: [String] = try connection.query(
            """
            SELECT DISTINCT 'REVOKE ALL ON ' || g.object || ' FROM '
                || CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END
            FROM (\(query)) AS g (object, grantee) LEFT JOIN pg_catalog.pg_roles r ON r.oid::bigint = g.grantee
            """, parameters
        ).map { try $0.get(0) }
        for statement in statements { try connection.execute(statement) }
    }
}
