/// Keeps code that other roles wrote into a database from running with the rights of a superuser who restores, tests or
/// changes something in that database. "Other roles" are roles that are not superusers. A confinement lasts for one
/// transaction, or for several sessions in succession.
///
/// While a confinement lasts:
/// - Functions run with the rights of their owners (`FunctionConfinement`). An event trigger extends this to functions
///   that are created, replaced, altered or given to another owner.
/// - Event triggers are disabled if their functions belong to other roles.
/// - Functions of other roles cannot change the schema, except for temporary objects.
/// - New objects do not get default privileges (ALTER DEFAULT PRIVILEGES): restored objects have the privileges that
///   the backup contains. Members of extensions are an exception.
/// - CHECK constraints are suspended. With `Checks.met`, which is for restores, this applies to all constraints of
///   domains and, after `suspendChecks`, to all constraints of tables. The rows satisfied these constraints when the
///   rows were dumped. With `Checks.tried`, it applies only to constraints of domains of other roles whose expressions
///   are risky (`RiskyExpression`).
///
/// The catalog is changed directly, because ALTER FUNCTION would run event triggers, and their functions may belong to
/// other roles. Only a superuser can change the catalog directly. If the current role is not a superuser, nothing is
/// changed. Code of other roles then gains nothing from running with the rights of the current role, unless that role
/// is privileged in another way.
public struct Confinement: Sendable {
    /// How CHECK constraints are treated.
    public enum Checks: Sendable {
        /// The constraints are suspended, because the rows have satisfied them before.
        case met
        /// The constraints are enforced, except for those that are not safe to evaluate.
        case tried
    }

    private let schema: String
    private let target: ConnectionSettings?
    private let checks: Checks

    /// - Parameter target: the database in which `suspendChecks` runs its script. nil: `suspendChecks` does nothing.
    public init(target: ConnectionSettings? = nil, checks: Checks = .met) {
        self.checks = checks
        // The random number keeps other roles from creating the schema beforehand.
        let number = UInt64.random(in: .min ... .max)
        schema = "reeve_confinement_\(String(number, radix: 36))"
        self.target = target
    }

    /// A script that confines the existing code, and code that is created until `end`. The script must run in one
    /// transaction, which may be the transaction of the work itself.
    public var begin: String {
        """
        SET LOCAL search_path = pg_catalog, pg_temp;
        -- Others may be changing a function or an event trigger, in a transaction that stays open.
        SELECT pg_catalog.set_config('lock_timeout', '\(Self.lockLimit.milliseconds)', true)
            WHERE pg_catalog.current_setting('lock_timeout') = '0';
        -- Of several at once each takes back what it did.
        LOCK TABLE pg_catalog.pg_event_trigger IN SHARE ROW EXCLUSIVE MODE;
        DO $$
        DECLARE
            known oid[];
            silent oid[];
            before "char"[];
        BEGIN
            -- First of all, for what follows runs event triggers that are there.
            SELECT pg_catalog.array_agg(e.oid), pg_catalog.array_agg(e.evtenabled) INTO silent, before
                FROM pg_catalog.pg_event_trigger e JOIN pg_catalog.pg_proc p ON p.oid = e.evtfoid
                JOIN pg_catalog.pg_roles o ON o.oid = p.proowner WHERE NOT o.rolsuper AND e.evtenabled <> 'D';
            UPDATE pg_catalog.pg_event_trigger SET evtenabled = 'D' WHERE oid = ANY (silent);
            -- A row that another session was changing is judged as that left it: by what stands in the row alone.
            WITH confined AS (
                UPDATE pg_catalog.pg_proc p SET prosecdef = true
                    WHERE \(FunctionConfinement.isConfinable) AND p.proowner <> ALL (
                        ARRAY(SELECT o.oid FROM pg_catalog.pg_roles o WHERE o.rolsuper))
                RETURNING p.oid)
            SELECT pg_catalog.array_agg(c.oid) INTO known FROM confined c;
            \(PrivateSchema.creation(schema))
            CREATE TABLE \(schema).functions (id oid PRIMARY KEY);
            CREATE TABLE \(schema).silent (id oid PRIMARY KEY, enabled "char");
            CREATE TABLE \(schema).checks (id oid PRIMARY KEY, expression pg_node_tree);
            CREATE DOMAIN \(schema).anything AS boolean CHECK (true);
            INSERT INTO \(schema).functions SELECT pg_catalog.unnest(known);
            INSERT INTO \(schema).silent SELECT * FROM unnest(silent, before);
            \(suspension(of: "k.contypid <> 0"))
        END $$;
        CREATE FUNCTION \(schema).confine() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
            SET search_path = pg_catalog, pg_temp AS $$
        DECLARE
            one oid;
        BEGIN
            -- What ALTER DEFAULT PRIVILEGES grants, before the privileges of the backup are granted.
            IF EXISTS (SELECT FROM pg_catalog.pg_default_acl) THEN
                \(Self.withoutDefaultPrivileges)
            END IF;
            -- One that its maker has made SECURITY DEFINER stays so.
            DELETE FROM \(schema).functions f USING pg_catalog.pg_event_trigger_ddl_commands() c, pg_catalog.pg_proc p
                WHERE c.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND c.command_tag LIKE 'CREATE %'
                    AND p.oid = c.objid AND f.id = p.oid AND p.prosecdef;
            FOR one IN SELECT p.oid FROM pg_catalog.pg_event_trigger_ddl_commands() c
                JOIN pg_catalog.pg_proc p ON c.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND p.oid = c.objid
                JOIN pg_catalog.pg_roles o ON o.oid = p.proowner WHERE \(FunctionConfinement.unconfined)
            LOOP
                INSERT INTO \(schema).functions VALUES (one) ON CONFLICT DO NOTHING;
                UPDATE pg_catalog.pg_proc SET prosecdef = true WHERE oid = one;
            END LOOP;
            FOR one IN SELECT c.objid FROM pg_catalog.pg_event_trigger_ddl_commands() c
                WHERE c.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
            LOOP
                \(suspension(of: "k.contypid = one"))
            END LOOP;
        END $$;
        -- With the rights of whoever changes something, who is a superuser unless it is a function of others.
        CREATE FUNCTION \(schema).refuse() RETURNS event_trigger LANGUAGE plpgsql
            SET search_path = pg_catalog, pg_temp AS $$
        BEGIN
            IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger_ddl_commands() c
                    WHERE c.schema_name IS DISTINCT FROM 'pg_temp')
                AND NOT (SELECT o.rolsuper FROM pg_catalog.pg_roles o WHERE o.rolname = current_user)
            THEN
                RAISE EXCEPTION 'a function of % changes the schema while it is confined', current_user
                    USING ERRCODE = 'insufficient_privilege';
            END IF;
        END $$;
        CREATE EVENT TRIGGER \(schema) ON ddl_command_end
            EXECUTE FUNCTION \(schema).confine();
        CREATE EVENT TRIGGER \(schema)_refuse ON ddl_command_end
            EXECUTE FUNCTION \(schema).refuse();

        """
    }

    /// PL/pgSQL for an event trigger, which removes the privileges of the objects that a command has created.
    private static let withoutDefaultPrivileges: String = {
        let made = "c.command_tag LIKE 'CREATE %' AND NOT c.in_extension"
        let lists = [("pg_class", "relacl"), ("pg_proc", "proacl"), ("pg_type", "typacl"), ("pg_namespace", "nspacl")]
        return lists.map { catalog, privileges in
            """
            UPDATE pg_catalog.\(catalog) o SET \(privileges) = NULL
                FROM pg_catalog.pg_event_trigger_ddl_commands() c
                WHERE c.classid = 'pg_catalog.\(catalog)'::pg_catalog.regclass AND o.oid = c.objid AND \(made)
                    AND o.\(privileges) IS NOT NULL;

            """
        }.joined() + """
            DELETE FROM pg_catalog.pg_shdepend d USING pg_catalog.pg_event_trigger_ddl_commands() c
                WHERE d.classid = c.classid AND d.objid = c.objid AND d.deptype = 'a' AND \(made) AND d.dbid = (
                    SELECT b.oid FROM pg_catalog.pg_database b WHERE b.datname = pg_catalog.current_database());
            """
    }()

    /// SQL that keeps functions of other roles from running at COMMIT with the rights of the session. It runs deferred
    /// triggers now, while the functions are confined, and closes all cursors, because COMMIT runs the queries of
    /// cursors WITH HOLD.
    public static let leaveNothing = "SET CONSTRAINTS ALL IMMEDIATE; CLOSE ALL;"

    /// A script that reverts the changes of `begin`, of its event trigger and of `suspendChecks`. It must run in one
    /// transaction.
    public var end: String {
        """
        \(Self.leaveNothing)
        SET LOCAL search_path = pg_catalog, pg_temp;
        DROP EVENT TRIGGER \(schema);
        DROP EVENT TRIGGER \(schema)_refuse;
        -- Waits for those who have just made a function and tell of it there.
        LOCK TABLE \(schema).functions IN ACCESS EXCLUSIVE MODE;
        DO $$
        DECLARE
            known oid[] := (SELECT pg_catalog.array_agg(f.id) FROM \(schema).functions f);
            silent oid[];
            before "char"[];
        BEGIN
            SELECT pg_catalog.array_agg(s.id), pg_catalog.array_agg(s.enabled) INTO silent, before FROM \(schema).silent s;
            UPDATE pg_catalog.pg_constraint k SET conbin = c.expression FROM \(schema).checks c WHERE k.oid = c.id;
            UPDATE pg_catalog.pg_class r SET relchecks = relchecks WHERE r.oid IN (
                SELECT k.conrelid FROM pg_catalog.pg_constraint k JOIN \(schema).checks c ON c.id = k.oid);
            DROP SCHEMA \(schema) CASCADE;
            -- Last of all, for what comes before runs event triggers that are there.
            UPDATE pg_catalog.pg_proc SET prosecdef = false WHERE oid = ANY (known);
            UPDATE pg_catalog.pg_event_trigger e SET evtenabled = b.enabled
                FROM unnest(silent, before) AS b (id, enabled) WHERE e.oid = b.id AND e.evtenabled = 'D';
        END $$;

        """
    }

    /// Suspends the CHECK constraints of tables until `end`. Must be called before the rows are
    /// restored, and after all tables are created: a new table that inherits would copy the suspended constraints of
    /// its parent.
    public func suspendChecks() async throws {
        guard let target else { return }
        try await Self.run(
            "DO $$ BEGIN \(suspension(of: "k.conrelid <> 0")) END $$", in: target)
    }

    /// PL/pgSQL that replaces the expressions of CHECK constraints by `true`. With `Checks.tried`, only risky
    /// expressions of tables and domains that belong to roles that are not superusers are replaced.
    ///
    /// - Parameter which: an SQL condition on a row `k` of pg_constraint, which selects the constraints.
    private func suspension(of which: String) -> String {
        let isOfOthers = """
            EXISTS (SELECT FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper AND (
                o.oid = (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = k.conrelid)
                OR o.oid = (SELECT t.typowner FROM pg_catalog.pg_type t WHERE t.oid = k.contypid)))
            """
        // Restored rows have satisfied all constraints when they were dumped. A constraint may read other tables, whose
        // rows are not there yet.
        let suspended = checks == .met ? "true" : "\(isOfOthers) AND \(RiskyExpression.isRisky("k.conbin"))"
        return """
            WITH found AS (
                INSERT INTO \(schema).checks SELECT k.oid, k.conbin FROM pg_catalog.pg_constraint k
                WHERE k.contype = 'c' AND \(which) AND \(suspended)
                ON CONFLICT DO NOTHING RETURNING id)
            UPDATE pg_catalog.pg_constraint k SET conbin = (
                SELECT d.conbin FROM pg_catalog.pg_constraint d
                WHERE d.contypid = '\(schema).anything'::pg_catalog.regtype)
            FROM found f WHERE k.oid = f.id;
            -- What sessions remember of the tables holds no longer.
            UPDATE pg_catalog.pg_class r SET relchecks = relchecks WHERE r.oid IN (
                SELECT k.conrelid FROM pg_catalog.pg_constraint k JOIN \(schema).checks c ON c.id = k.oid);
            """
    }

    /// Confines the code in a database while `body` runs. `body` works in its own sessions, and no other process may
    /// use the database. If the role is not a superuser, nothing is changed.
    ///
    /// The confinement also ends if `body` throws an error or the task is cancelled. Afterwards, the objects in the
    /// database are again as their owners wrote them.
    public static func during<T: Sendable>(
        in target: ConnectionSettings, _ body: (Confinement) async throws -> T
    ) async throws -> T {
        guard try await isSuperuser(in: target) else { return try await body(Confinement()) }
        let confinement = Confinement(target: target)
        try await Connection.opened(target) { connection in
            try await connection.with { connection in
                try connection.transaction { try begin(confinement, on: connection) }
            }
        }
        let value: T
        do {
            value = try await body(confinement)
        } catch {
            // The script runs in a separate task, because the current task may be cancelled. The error of `body` is
            // thrown, even if the script fails, too.
            try? await Task { try await run(confinement.end, in: target) }.value
            throw error
        }
        try await run(confinement.end, in: target)
        return value
    }

    /// Confines the code in a database while `body` runs, within the open transaction. The confinement sets
    /// `search_path` and `lock_timeout` for the transaction, and does not reset them.
    ///
    /// Until the transaction ends, a session that alters or replaces a confined function waits. The server then refuses
    /// the change ("tuple concurrently updated").
    ///
    /// - Throws: the error of `body`; `PostgresError` with SQLSTATE 55P03 if another transaction has changed a function
    ///   or an event trigger, and does not end within `lock_timeout` (within a minute if `lock_timeout` is not set).
    ///   The hint names the session of that transaction.
    public static func during<T>(
        on connection: isolated Connection, isNeeded: Bool = true, _ body: () throws -> T
    ) throws -> T {
        guard try isNeeded && isSuperuser(on: connection) else { return try body() }
        let confinement = Confinement(checks: .tried)
        try begin(confinement, on: connection)
        let value = try body()
        try connection.execute(confinement.end)
        return value
    }

    /// How long to wait for a session that changes a function or an event trigger, if `lock_timeout` is not set.
    static let lockLimit: Duration = .seconds(60)

    /// Waits until no other session is changing a catalog row that a confinement in this database has to change.
    /// Changes nothing. Must be called before another program is started that runs `begin`: if that program waited too
    /// long, its error would not name the session that it waited for.
    ///
    /// - Throws: as `during(on:isNeeded:_:)`.
    public static func awaitTurn(in target: ConnectionSettings) async throws {
        struct Undo: Error {}
        try await Connection.opened(target) { connection in
            try await connection.with { connection in
                do {
                    try connection.transaction {
                        try begin(Confinement(), on: connection)
                        throw Undo()
                    }
                } catch is Undo {}
            }
        }
    }

    /// Runs `begin` in the open transaction. If a lock is not available in time, the hint of the error names the
    /// session that holds the lock.
    private static func begin(_ confinement: Confinement, on connection: isolated Connection) throws {
        do {
            // The script runs under a savepoint, so that the query for the holder can run after an error.
            try connection.savepoint { _ = try connection.execute(confinement.begin) }
        } catch var error as PostgresError where error.sqlState == "55P03" {
            if let holder = try holder(on: connection) {
                error.hint = "end the transaction of \(holder), which is changing a function or an event trigger"
            }
            throw error
        }
    }

    /// Returns a description of a session that has changed a function or an event trigger in an open transaction.
    private static func holder(on connection: isolated Connection) throws -> String? {
        try connection.query(
            """
            SELECT pg_catalog.format('process %s of %s (%s)', a.pid, a.usename, a.application_name)
            FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
            WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid() AND (
                l.locktype = 'transactionid' AND l.transactionid IN (SELECT p.xmax FROM pg_catalog.pg_proc p)
                OR l.locktype = 'relation' AND l.mode <> 'AccessShareLock'
                    AND l.relation = 'pg_catalog.pg_event_trigger'::pg_catalog.regclass
                    AND l.database = (
                        SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()))
            LIMIT 1
            """
        ).first?.get(0)
    }

    /// Returns whether the role of these settings is a superuser.
    public static func isSuperuser(in target: ConnectionSettings) async throws -> Bool {
        try await Connection.opened(target) { connection in
            try await connection.with { try isSuperuser(on: $0) }
        }
    }

    /// Returns whether the current role of the session is a superuser.
    public static func isSuperuser(on connection: isolated Connection) throws -> Bool {
        try connection.query(
            "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
        ).first?.get(0) ?? false
    }

    private static func run(_ script: String, in target: ConnectionSettings) async throws {
        try await Connection.opened(target) { connection in
            try await connection.with { connection in
                try connection.transaction { _ = try connection.execute(script) }
            }
        }
    }
}
