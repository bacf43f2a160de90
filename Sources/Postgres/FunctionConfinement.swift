/// Keeps functions that others wrote from running with more rights than their owners have.
///
/// A row that is inserted, a constraint that is checked and a trigger that fires run functions of the database, and a
/// function without SECURITY DEFINER runs as whoever happens to be there: a superuser, where Reeve is one. Changing the
/// role around the statement does not help, for the function can change it back. So every function whose owner is no
/// superuser is made SECURITY DEFINER for as long as it matters: it runs as its owner, and PostgreSQL refuses to change the
/// role within it (manual, CREATE FUNCTION, "Writing SECURITY DEFINER Functions Safely").
///
/// The catalog is changed directly, for ALTER FUNCTION would run event triggers, which are others' functions too. Only a
/// superuser can; any other role lends its rights to nobody who has fewer, as long as it is not itself privileged.
public enum FunctionConfinement {
    /// Functions that would run as whoever calls them, and whose owner is no superuser. What extensions bring is the
    /// superuser's who made them.
    private static let unconfined = """
        NOT p.prosecdef AND p.prokind <> 'a' AND NOT o.rolsuper AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
                AND d.objid = p.oid AND d.deptype = 'e')
        """

    private static let isSuperuser = "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"

    /// Confines what is there, in the open transaction, until `end` or its rollback. Does nothing where the role is no
    /// superuser.
    ///
    /// - Returns: what `end` is told.
    @discardableResult
    public static func begin(on connection: isolated Connection) throws -> [Int] {
        guard try connection.query(isSuperuser).first?.get(0, as: Bool.self) == true else { return [] }
        return try connection.query(
            """
            UPDATE pg_catalog.pg_proc q SET prosecdef = true FROM pg_catalog.pg_proc p
                JOIN pg_catalog.pg_roles o ON o.oid = p.proowner WHERE q.oid = p.oid AND \(unconfined)
            RETURNING q.oid::pg_catalog.int8
            """
        ).map { try $0.get(0) }
    }

    /// Takes back what `begin` did.
    public static func end(_ confined: [Int], on connection: isolated Connection) throws {
        if confined.isEmpty { return }
        try connection.query(
            "UPDATE pg_catalog.pg_proc SET prosecdef = false WHERE oid::pg_catalog.int8 = ANY ($1::pg_catalog.int8[])",
            [confined])
    }

    /// The schema in which a confinement that spans sessions is recorded.
    static let schema = "reeve_confinement"

    /// A script that confines what is there and all that is made, replaced or given to another owner from then on, in
    /// whatever session, until `endScript`; in one transaction, which may be that of the work itself.
    ///
    /// An event trigger does it, so that a function is never to be called unconfined once it has its owner.
    public static let beginScript = """
        SET LOCAL search_path = pg_catalog, pg_temp;
        DO $$
        DECLARE
            known oid[];
        BEGIN
            -- First of all, for what follows runs event triggers that are there.
            WITH confined AS (
                UPDATE pg_catalog.pg_proc q SET prosecdef = true FROM pg_catalog.pg_proc p
                    JOIN pg_catalog.pg_roles o ON o.oid = p.proowner WHERE q.oid = p.oid AND \(unconfined)
                RETURNING q.oid)
            SELECT pg_catalog.array_agg(c.oid) INTO known FROM confined c;
            CREATE SCHEMA \(schema);
            CREATE TABLE \(schema).functions (id oid PRIMARY KEY);
            INSERT INTO \(schema).functions SELECT pg_catalog.unnest(known);
        END $$;
        CREATE FUNCTION \(schema).confine() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            one oid;
        BEGIN
            FOR one IN SELECT p.oid FROM pg_catalog.pg_event_trigger_ddl_commands() c
                JOIN pg_catalog.pg_proc p ON c.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = c.objid
                JOIN pg_catalog.pg_roles o ON o.oid = p.proowner WHERE \(unconfined)
            LOOP
                INSERT INTO \(schema).functions VALUES (one) ON CONFLICT DO NOTHING;
                UPDATE pg_catalog.pg_proc SET prosecdef = true WHERE oid = one;
            END LOOP;
        END $$;
        CREATE EVENT TRIGGER reeve_confinement ON ddl_command_end
            WHEN TAG IN ('CREATE FUNCTION', 'CREATE PROCEDURE', 'ALTER FUNCTION', 'ALTER PROCEDURE', 'ALTER ROUTINE')
            EXECUTE FUNCTION \(schema).confine();

        """

    /// Takes back what `beginScript` and its event trigger did; in one transaction.
    public static let endScript = """
        SET LOCAL search_path = pg_catalog, pg_temp;
        DROP EVENT TRIGGER reeve_confinement;
        DO $$
        DECLARE
            known oid[] := (SELECT pg_catalog.array_agg(f.id) FROM \(schema).functions f);
        BEGIN
            DROP SCHEMA \(schema) CASCADE;
            -- Last of all, for what comes before runs event triggers that are there.
            UPDATE pg_catalog.pg_proc SET prosecdef = false WHERE oid = ANY (known);
        END $$;

        """

    /// Confines functions for as long as `body` works in sessions of its own on a database that nobody else uses. Where
    /// the role is no superuser, nothing is changed.
    ///
    /// After an error what was confined stays so: the database is not whole.
    public static func confining<T: Sendable>(
        in target: ConnectionSettings, _ body: () async throws -> T
    ) async throws -> T {
        guard try await canConfine(in: target) else { return try await body() }
        try await run(beginScript, in: target)
        let value = try await body()
        try await run(endScript, in: target)
        return value
    }

    /// Whether the role of these settings is a superuser.
    public static func canConfine(in target: ConnectionSettings) async throws -> Bool {
        try await Connection.opened(target) { connection in
            try await connection.with { try $0.query(isSuperuser).first?.get(0) ?? false }
        }
    }

    private static func run(_ script: String, in target: ConnectionSettings) async throws {
        try await Connection.opened(target) { connection in
            try await connection.with { connection in
                try connection.transaction { _ = try connection.execute(script) }
            }
        }
    }
}
