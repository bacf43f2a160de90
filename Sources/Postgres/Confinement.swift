/// Keeps what others wrote into a database from running with the rights of a superuser who restores, tries or changes
/// something there: for a transaction, or for sessions that come after one another.
///
/// - Functions run as their owners (`FunctionConfinement`), also those that are made, replaced, altered or given to another
///   owner meanwhile: an event trigger sees to that.
/// - Event triggers whose function belongs to others are silent meanwhile.
/// - Others' functions change nothing in the schema meanwhile, but for temporary objects.
/// - Others' CHECK constraints are not enforced: while rows are restored, which met them when they were dumped, none of
///   domains, and none of tables once `suspendChecks` was called; otherwise those of domains with a risky expression
///   (`RiskyExpression`).
///
/// The catalog is changed directly, for ALTER FUNCTION would run event triggers, which are others' functions too. Only a
/// superuser can; any other role lends its rights to nobody who has fewer, as long as it is not itself privileged, and
/// nothing is changed for it.
public struct Confinement: Sendable {
    /// What to do with the CHECK constraints of other roles.
    public enum Checks: Sendable {
        /// Rows met them before.
        case met
        /// The constraints are to be tried, as far as that is safe.
        case tried
    }

    private let schema: String
    private let target: ConnectionSettings?
    private let checks: Checks

    /// - Parameter target: where its scripts are run by `suspendChecks`; nil: they are run by others.
    public init(target: ConnectionSettings? = nil, checks: Checks = .met) {
        self.checks = checks
        // A name that nobody can have taken beforehand.
        let number = UInt64.random(in: .min ... .max)
        schema = "reeve_confinement_\(String(number, radix: 36))"
        self.target = target
    }

    /// A script that confines what is there, and all that comes, until `end`; in one transaction, which may be that of the
    /// work itself.
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
            CREATE SCHEMA \(schema);
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

    /// Ends what functions of others may have left to be run at COMMIT with the rights of the session: deferred triggers,
    /// while the functions are confined, and cursors WITH HOLD.
    public static let leaveNothing = "SET CONSTRAINTS ALL IMMEDIATE; CLOSE ALL;"

    /// Takes back what `begin`, its event trigger and `suspendChecks` did; in one transaction.
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

    /// Suspends others' CHECK constraints of tables until the end. To be called between the making of the tables and their
    /// rows: those of a table that inherits are copies of its parent's.
    public func suspendChecks() async throws {
        guard let target else { return }
        try await Self.run(
            "DO $$ BEGIN \(suspension(of: "k.conrelid <> 0")) END $$", in: target)
    }

    /// PL/pgSQL that puts `true` in the place of the expressions of those who are no superusers.
    private func suspension(of which: String) -> String {
        """
        WITH found AS (
            INSERT INTO \(schema).checks SELECT k.oid, k.conbin FROM pg_catalog.pg_constraint k
            WHERE k.contype = 'c' AND \(which) AND EXISTS (
                SELECT FROM pg_catalog.pg_roles o WHERE NOT o.rolsuper AND (
                    o.oid = (SELECT c.relowner FROM pg_catalog.pg_class c WHERE c.oid = k.conrelid)
                    OR o.oid = (SELECT t.typowner FROM pg_catalog.pg_type t WHERE t.oid = k.contypid)))
                \(checks == .met ? "" : "AND " + RiskyExpression.isRisky("k.conbin"))
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

    /// Confines for as long as `body` works in sessions of its own on a database that nobody else uses. Where the role is
    /// no superuser, nothing is changed.
    ///
    /// After an error, and when the task is cancelled, it ends too: what is left in the database is as its owner wrote it.
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
            // In a task of its own, for this one may be cancelled. What stopped the work is what is told.
            try? await Task { try await run(confinement.end, in: target) }.value
            throw error
        }
        try await run(confinement.end, in: target)
        return value
    }

    /// Confines in the open transaction for as long as `body` works. What it set for the transaction is not taken back.
    ///
    /// Until the transaction ends, whoever alters or replaces a function that is confined waits for it, and is then refused
    /// by the server ("tuple concurrently updated").
    ///
    /// - Throws: what `body` throws; `PostgresError` with SQLSTATE 55P03 and a hint that names the session that is changing
    ///   a function, where it does so for longer than the transaction's `lock_timeout`, or else a minute.
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

    /// How long is waited for somebody who changes a function or an event trigger, where nothing else is said.
    static let lockLimit: Duration = .seconds(60)

    /// Waits until nobody is changing what a confinement in this database has to change; nothing is left behind. To be
    /// called before a program that runs `begin`, whose error would not say who is in the way.
    ///
    /// - Throws: as `during`.
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

    /// Runs `begin` in the open transaction. Where a lock was not to be had in time, the error names its holder.
    private static func begin(_ confinement: Confinement, on connection: isolated Connection) throws {
        do {
            // Under a savepoint, so that the question for the holder can follow.
            try connection.savepoint { _ = try connection.execute(confinement.begin) }
        } catch var error as PostgresError where error.sqlState == "55P03" {
            if let holder = try holder(on: connection) {
                error.hint = "\(holder) is changing a function or an event trigger; see that its transaction ends"
            }
            throw error
        }
    }

    /// Who has changed a function or an event trigger in a transaction that is open.
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

    /// Whether the role of these settings is a superuser.
    public static func isSuperuser(in target: ConnectionSettings) async throws -> Bool {
        try await Connection.opened(target) { connection in
            try await connection.with { try isSuperuser(on: $0) }
        }
    }

    /// Whether the role that works is a superuser.
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
