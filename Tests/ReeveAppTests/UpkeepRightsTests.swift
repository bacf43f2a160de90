import Foundation
import Postgres
import Telemetry
import TestSupport
import Testing

@testable import Kernel
@testable import MaintenanceFeature
@testable import ReeveApp

/// The task `upkeep` calls functions with no more rights than their owners have.
@Suite(.database, .timeLimit(.minutes(4)))
struct UpkeepRightsTests {
    /// A plain role, the schema `app` that it owns, and a table in which code records as whom it runs.
    private struct Owner {
        let role = "owner_\(UUID().uuidString.prefix(8).lowercased())"
        let database: TestDatabase
        let fixture: MigrationFixture

        init(_ upkeep: String = "f: {}") async throws {
            database = try TestDatabase.current
            fixture = try MigrationFixture()
            try fixture.write("system.yaml", "name: app\nupkeep: {\(upkeep)}\n")
            try await database.execute(
                """
                CREATE ROLE \(role) LOGIN; CREATE SCHEMA app AUTHORIZATION \(role);
                SET ROLE \(role);
                CREATE TABLE app.ran (who text DEFAULT current_user, what text);
                CREATE TABLE app.t (id integer);
                """)
        }

        /// What the owner creates.
        func create(_ sql: String) async throws {
            var settings = database.plainSettings
            settings.parameters["user"] = role
            try await Connection.opened(settings) { connection in
                try await connection.with { _ = try $0.execute(sql) }
            }
        }

        func ran() async throws -> String {
            try await database.value(
                "SELECT coalesce(string_agg(what || ' as ' || replace(who, '\(role)', 'owner'), ', ' ORDER BY what), '') FROM app.ran"
            )
        }

        /// Runs the task, by default as the superuser of the tests.
        func run(as user: String? = nil, trusting trusted: String? = nil) async throws -> String {
            var settings = database.settings
            if let user { settings.parameters["user"] = user }
            var environment = ["DATABASE_URL": settings.uri, "REEVE_SYSTEMS": fixture.folder]
            if let trusted { environment["REEVE_TRUSTED_ROLES"] = trusted }
            let configuration = try FeatureList.reeve.configuration(path: nil, environment: environment)
            let estate = Estate(configuration: configuration, features: .reeve, logger: .silent)
            let open = try await estate.open(configuration.databases[0])
            do {
                let message = try await UpkeepTask.run(open, configuration, .silent, until: .now + .seconds(600))
                await open.database.pool.close()
                return message
            } catch let finding as TaskFinding {
                await open.database.pool.close()
                return "FAILED \(finding)".replacing(role, with: "owner")
            }
        }

        func end() async throws {
            try await database.execute("DROP OWNED BY \(role) CASCADE", "DROP ROLE \(role)")
        }
    }

    @Test func `a function of a plain role runs as that role, and cannot get back to the superuser`() async throws {
        let owner = try await Owner("f: , reset: , session: , grab: {}")
        try await owner.create(
            """
            CREATE FUNCTION app.record(what text DEFAULT 'default') RETURNS integer LANGUAGE sql
                AS 'INSERT INTO app.ran (what) VALUES (what) RETURNING 1';
            -- Defaults of arguments run with the rights of whoever calls.
            CREATE FUNCTION app.f(a integer DEFAULT app.record()) RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN RETURN app.record('body'); END $$;
            CREATE FUNCTION app.reset() RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN RESET ROLE; RETURN app.record('reset'); END $$;
            CREATE FUNCTION app.session() RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN RESET SESSION AUTHORIZATION; RETURN app.record('session'); END $$;
            CREATE FUNCTION app.grab() RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN ALTER ROLE \(owner.role) SUPERUSER; RETURN 1; END $$;
            """)
        let message = try await owner.run()
        #expect(message.hasPrefix("FAILED app.grab: "), "\(message)")
        #expect(
            message.contains("app.reset: cannot set parameter \"role\" within security-definer function"), "\(message)")
        #expect(message.contains("app.session: cannot set parameter \"session_authorization\""), "\(message)")
        #expect(message.contains("; app.f: 1"), "\(message)")
        #expect(try await owner.ran() == "body as owner, default as owner")
        let left = try await owner.database.value(
            "SELECT count(*) FROM pg_proc WHERE proname = 'reeve_upkeep'", as: Int.self)
        #expect(left == 0)
        try await owner.end()
    }

    @Test func `nothing of it runs at COMMIT with more rights`() async throws {
        let owner = try await Owner("f: , held: {}")
        try await owner.create(
            """
            CREATE FUNCTION app.late() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                INSERT INTO app.ran (what) VALUES ('trigger');
                -- Deferred anew, it would run once more at the end of the transaction.
                IF NEW.id < 3 THEN
                    SET CONSTRAINTS ALL DEFERRED;
                    INSERT INTO app.t VALUES (NEW.id + 1);
                END IF;
                RETURN NULL;
            END $$;
            CREATE CONSTRAINT TRIGGER late AFTER INSERT ON app.t DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION app.late();
            CREATE FUNCTION app.f() RETURNS integer LANGUAGE sql AS 'INSERT INTO app.t VALUES (1) RETURNING 1';
            CREATE FUNCTION app.read() RETURNS integer LANGUAGE sql AS
                'INSERT INTO app.ran (what) VALUES (''cursor'') RETURNING 1';
            CREATE FUNCTION app.held() RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN EXECUTE 'DECLARE late CURSOR WITH HOLD FOR SELECT app.read()'; RETURN 1; END $$;
            """)
        let message = try await owner.run()
        #expect(message.hasPrefix("FAILED app.f: it changes app.t, and the deferrable trigger late there could run"))
        #expect(message.hasSuffix("; app.held: 1"), "\(message)")
        #expect(try await owner.ran() == "")
        // A trigger that does not defer itself runs before COMMIT, as the owner; if the owner is trusted, that is
        // enough.
        try await owner.create(
            """
            CREATE OR REPLACE FUNCTION app.late() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO app.ran (what) VALUES ('trigger'); RETURN NULL; END $$
            """)
        #expect(try await owner.run(trusting: owner.role) == "app.f: 1; app.held: 1")
        #expect(try await owner.ran() == "trigger as owner")
        // Its owner could take SECURITY DEFINER back just before COMMIT. A trigger of a superuser may run what its
        // arguments say. One on a table that is not changed is no danger.
        try await owner.create("ALTER FUNCTION app.late() SECURITY DEFINER")
        #expect(try await owner.run().hasPrefix("FAILED app.f: it changes app.t, and the deferrable trigger late"))
        try await owner.database.execute("ALTER FUNCTION app.late() OWNER TO CURRENT_USER")
        #expect(try await owner.run().hasPrefix("FAILED app.f: it changes app.t, and the deferrable trigger late"))
        try await owner.create(
            """
            DROP TRIGGER late ON app.t;
            CREATE TABLE app.other (id integer);
            CREATE FUNCTION app.never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER never AFTER INSERT ON app.other DEFERRABLE FOR EACH ROW EXECUTE FUNCTION app.never();
            """)
        #expect(try await owner.run() == "app.f: 1; app.held: 1")
        #expect(try await owner.ran() == "trigger as owner")
        try await owner.end()
    }

    @Test func `deferred constraints whose expressions call code of others are refused too`() async throws {
        let owner = try await Owner()
        try await owner.create(
            """
            CREATE FUNCTION app.key(id integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
                $$ BEGIN RETURN id; END $$;
            ALTER TABLE app.t ADD CONSTRAINT late EXCLUDE USING btree (app.key(id) WITH =) DEFERRABLE INITIALLY DEFERRED;
            CREATE FUNCTION app.f() RETURNS integer LANGUAGE sql AS 'INSERT INTO app.t VALUES (1) RETURNING 1';
            """)
        #expect(try await owner.run().hasPrefix("FAILED app.f: it changes app.t, and the deferrable trigger "))
        // One without expressions, and a foreign key, run only code of PostgreSQL.
        try await owner.create(
            """
            ALTER TABLE app.t DROP CONSTRAINT late;
            ALTER TABLE app.t ADD CONSTRAINT late EXCLUDE USING btree (id WITH =) DEFERRABLE INITIALLY DEFERRED;
            ALTER TABLE app.t ADD CONSTRAINT once UNIQUE (id);
            ALTER TABLE app.t ADD parent integer REFERENCES app.t (id) DEFERRABLE INITIALLY DEFERRED;
            """)
        #expect(try await owner.run() == "app.f: 1")
        try await owner.end()
    }

    @Test func `event triggers of others do not fire for the wrapper`() async throws {
        let owner = try await Owner()
        try await owner.create(
            """
            CREATE FUNCTION app.f() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION app.event() RETURNS event_trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO app.ran (what) VALUES (TG_EVENT); END $$;
            """)
        for event in ["ddl_command_end", "sql_drop"] {
            try await owner.database.execute("CREATE EVENT TRIGGER \(event) ON \(event) EXECUTE FUNCTION app.event()")
        }
        #expect(try await owner.run() == "app.f: 1")
        try await owner.database.execute("ALTER EVENT TRIGGER sql_drop ENABLE ALWAYS")
        #expect(try await owner.run().hasPrefix("FAILED app.f: the event trigger sql_drop fires always"))
        #expect(try await owner.ran() == "")
        for event in ["ddl_command_end", "sql_drop"] { try await owner.database.execute("DROP EVENT TRIGGER \(event)") }
        try await owner.end()
    }

    @Test func `settings that a function leaves do not change what Reeve does after it`() async throws {
        let owner = try await Owner()
        try await owner.create(
            """
            CREATE FUNCTION app.count(text) RETURNS integer LANGUAGE sql AS
                'INSERT INTO app.ran (what) VALUES (''found'') RETURNING 1';
            CREATE FUNCTION app.eq(name, name) RETURNS boolean LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO app.ran (what) VALUES ('operator'); RETURN true; END $$;
            CREATE OPERATOR app.= (LEFTARG = name, RIGHTARG = name, FUNCTION = app.eq);
            CREATE FUNCTION app.f() RETURNS integer LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM set_config('search_path', 'app, pg_catalog', false);
                SET standard_conforming_strings = off;
                RETURN 1;
            END $$;
            """)
        #expect(try await owner.run() == "app.f: 1")
        #expect(try await owner.ran() == "")
        try await owner.end()
    }

    @Test func `a superuser calls its own function only in a schema that no other role can change`() async throws {
        let owner = try await Owner()
        try await owner.database.execute(
            "CREATE FUNCTION app.f() RETURNS integer LANGUAGE sql AS 'INSERT INTO app.ran (what) VALUES (''f'') RETURNING 1'"
        )
        let refused = try await owner.run()
        #expect(
            refused.hasPrefix(
                "FAILED app.f: it would run as a superuser in a schema in which other roles own or may create objects: owner"
            ),
            "\(refused)")
        #expect(try await owner.ran() == "")
        #expect(try await owner.run(trusting: owner.role) == "app.f: 1")
        try await owner.end()
    }

    @Test(arguments: [
        "GRANT TRIGGER ON app.ran TO \"ROLE\"", "GRANT ALL ON app.ran TO PUBLIC",
        """
        CREATE SCHEMA other; CREATE FUNCTION other.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        ALTER FUNCTION other.own() OWNER TO "ROLE";
        CREATE TRIGGER own AFTER INSERT ON app.ran FOR EACH ROW EXECUTE FUNCTION other.own()
        """,
    ])
    func `a superuser calls its own function only on tables that have no triggers of other roles`(
        statement: String
    ) async throws {
        let owner = try await Owner()
        try await owner.database.execute(
            "REASSIGN OWNED BY \(owner.role) TO CURRENT_USER",
            "CREATE FUNCTION app.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'")
        #expect(try await owner.run() == "app.f: 1")
        try await owner.database.execute(statement.replacing("ROLE", with: owner.role))
        let refused = try await owner.run()
        let isForAll = statement.contains("PUBLIC")
        #expect(
            refused.hasPrefix(
                "FAILED app.f: it would run as a superuser on tables on which other roles have triggers or may create "
                    + "them: \(isForAll ? "PUBLIC" : "owner")"), "\(refused)")
        if !isForAll { #expect(try await owner.run(trusting: owner.role) == "app.f: 1") }
        try await owner.end()
    }

    @Test func `a superuser's own function ends without the deferred triggers of other roles`() async throws {
        let owner = try await Owner()
        try await owner.database.execute(
            """
            REASSIGN OWNED BY \(owner.role) TO CURRENT_USER; ALTER TABLE app.t ADD PRIMARY KEY (id);
            INSERT INTO app.t VALUES (1); GRANT USAGE ON SCHEMA app TO \(owner.role);
            GRANT REFERENCES ON app.t TO \(owner.role); GRANT INSERT ON app.ran TO PUBLIC;
            CREATE SCHEMA own AUTHORIZATION \(owner.role);
            CREATE FUNCTION app.f() RETURNS integer LANGUAGE sql AS 'DELETE FROM app.t RETURNING 1';
            """)
        try await owner.create(
            """
            CREATE TABLE own.child (id integer REFERENCES app.t ON DELETE CASCADE);
            INSERT INTO own.child VALUES (1);
            CREATE FUNCTION own.late() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO app.ran (what) VALUES ('late'); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER late AFTER DELETE ON own.child DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION own.late();
            """)
        #expect(
            try await owner.run().hasPrefix("FAILED app.f: it changes own.child, and the deferrable trigger late there")
        )
        #expect(try await owner.ran() == "")
        try await owner.end()
    }

    @Test func `a role that is no superuser takes the owner's role, and is not available to the function`() async throws
    {
        let owner = try await Owner("f: , reset: {}")
        try await owner.create(
            """
            CREATE FUNCTION app.f() RETURNS integer LANGUAGE sql AS 'INSERT INTO app.ran (what) VALUES (''f'') RETURNING 1';
            CREATE FUNCTION app.reset() RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN RESET ROLE; RETURN app.f(); END $$;
            REVOKE EXECUTE ON FUNCTION app.f(), app.reset() FROM PUBLIC;
            """)
        let steward = "steward_\(owner.role)"
        try await owner.database.execute("CREATE ROLE \(steward) LOGIN NOINHERIT")
        let refused = try await owner.run(as: steward)
        #expect(
            refused.hasPrefix(
                "FAILED app.f: it belongs to owner, and the role that connects cannot take that role (hint: GRANT \"owner\""
            ),
            "\(refused)")
        try await owner.database.execute("GRANT \(owner.role) TO \(steward)")
        let message = try await owner.run(as: steward)
        #expect(message.hasPrefix("FAILED app.reset: cannot set parameter \"role\""), "\(message)")
        #expect(message.hasSuffix("; app.f: 1"), "\(message)")
        #expect(try await owner.ran() == "f as owner")
        // The owner itself needs nothing of this, and what a superuser owns must be granted.
        try await owner.database.execute("DROP FUNCTION app.reset()", "ALTER FUNCTION app.f() OWNER TO CURRENT_USER")
        try owner.fixture.write("system.yaml", "name: app\nupkeep: {f: {}}\n")
        #expect(
            try await owner.run(as: steward).hasPrefix(
                "FAILED app.f: the role that connects may not call it (hint: GRANT EXECUTE"))
        try await owner.database.execute("ALTER FUNCTION app.f() OWNER TO \(owner.role)")
        #expect(try await owner.run(as: owner.role) == "app.f: 1")
        try await owner.database.execute("DROP ROLE \(steward)")
        try await owner.end()
    }
}
