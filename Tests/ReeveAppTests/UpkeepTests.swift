import Foundation
import Postgres
import Reporting
import Telemetry
import TestSupport
import Testing

@testable import Kernel
@testable import MaintenanceFeature
@testable import ReeveApp

/// The task that calls the functions that systems declare for their upkeep.
@Suite(.database, .timeLimit(.minutes(4)))
struct UpkeepTests {
    /// A folder with a system that has the schema `name`.
    private func system(_ name: String = "app", _ upkeep: String) throws -> MigrationFixture {
        let fixture = try MigrationFixture()
        try fixture.write("system.yaml", "name: \(name)\nupkeep: {\(upkeep)}\n")
        return fixture
    }

    /// Runs the task in this process.
    private func run(
        _ fixtures: MigrationFixture..., as role: String? = nil, with environment: [String: String] = [:],
        until end: ContinuousClock.Instant = .now + .seconds(600)
    ) async throws -> String {
        var settings = try TestDatabase.current.settings
        if let role { settings.parameters["user"] = role }
        let configuration = try FeatureList.reeve.configuration(
            path: nil,
            environment: [
                "DATABASE_URL": settings.uri, "REEVE_SYSTEMS": fixtures.map(\.folder).joined(separator: ","),
            ].merging(environment) { $1 })
        let estate = Estate(configuration: configuration, features: .reeve, logger: .silent)
        let open = try await estate.open(configuration.databases[0])
        do {
            let message = try await UpkeepTask.run(open, configuration, .silent, until: end)
            await open.database.pool.close()
            return message
        } catch let finding as TaskFinding {
            await open.database.pool.close()
            return "FAILED \(finding)"
        }
    }

    private func lines(_ sql: String) async throws -> String {
        try await TestDatabase.current.value("SELECT coalesce(string_agg(l, ' ' ORDER BY l), '') FROM (\(sql)) s (l)")
    }

    // MARK: The shipped systems

    @Test func `the partitions of the months to come are made, once their migration is applied`() async throws {
        let database = try TestDatabase.current
        let environment = ["REEVE_SYSTEMS": "advideo"]
        func upkeep(_ more: [String: String] = [:]) async throws -> String {
            let (object, _) = try await ReeveBinary.json(
                ["task", "run", "upkeep"], on: database.settings, environment: environment.merging(more) { $1 })
            let run = try #require((object["runs"] as? [[String: Any]])?.first, "\(object)")
            return "\(run["state"] ?? "") \(run["message"] ?? "")"
        }
        let absent =
            "not called: advideo.ensure_generation_cost_partitions (the opt-in migration 'partitioned-costs' is not applied)"
        #expect(
            try await ReeveBinary.run(["migrate", "up"], on: database.settings, environment: environment).succeeded)
        #expect(try await upkeep() == "succeeded \(absent)")
        // It is chosen, but not applied yet.
        let chosen = ["REEVE_DATABASE_OPTIONS": "advideo/partitioned-costs"]
        #expect(try await upkeep(chosen) == "succeeded \(absent)")
        let applied = try await ReeveBinary.run(
            ["migrate", "up"], on: database.settings, environment: environment.merging(chosen) { $1 })
        #expect(applied.succeeded, "\(applied)")
        #expect(try await upkeep() == "succeeded advideo.ensure_generation_cost_partitions: 0")
        let last = try await database.value(
            """
            SELECT max(inhrelid::regclass::text) FROM pg_inherits
            WHERE inhparent = 'advideo.generation_costs'::regclass AND inhrelid::regclass::text ~ '_[0-9]{4}_[0-9]{2}$'
            """, as: String.self)
        try await database.execute("DROP TABLE \(last)")
        #expect(try await upkeep() == "succeeded advideo.ensure_generation_cost_partitions: 1")
        #expect(try await database.value("SELECT to_regclass($1) IS NOT NULL", [last]))
        // If the function is gone, the migration is not what it was.
        try await database.execute("DROP FUNCTION advideo.ensure_generation_cost_partitions")
        let gone = try await upkeep()
        #expect(gone.hasPrefix("failed advideo.ensure_generation_cost_partitions: the function does not exist (hint: "))
        let doctor = try await ReeveBinary.run(
            ["doctor", "--only", "upkeep"], on: database.settings, environment: environment)
        #expect(doctor.ending == .exited(3) && doctor.output.contains("the function does not exist"), "\(doctor)")
    }

    @Test(.database(.systems)) func `clean-ups of the shipped systems run only if the configuration names them`()
        async throws
    {
        let database = try TestDatabase.current
        let environment = ["REEVE_SYSTEMS": "videogen"]
        let without = try await ReeveBinary.run(
            ["task", "run", "upkeep"], on: database.settings, environment: environment)
        #expect(without.succeeded && without.output.contains("(not in upkeep.allow)"), "\(without)")
        let allowed = environment.merging(["REEVE_UPKEEP_ALLOW": "videogen/cleanup_old_metrics"]) { $1 }
        let doctor = try await ReeveBinary.run(
            ["doctor", "--only", "upkeep"], on: database.settings, environment: allowed)
        #expect(doctor.succeeded, "\(doctor)")
        try await database.execute(
            """
            INSERT INTO videogen.system_metrics (metric_name, metric_value, recorded_at)
            SELECT 'old', 1, now() - make_interval(days => g) FROM generate_series(5, 9) g
            """)
        let with = try await ReeveBinary.run(["task", "run", "upkeep"], on: database.settings, environment: allowed)
        #expect(with.succeeded && with.output.contains("videogen.cleanup_old_metrics: 3 in 2 calls"), "\(with)")
    }

    // MARK: What is called

    @Test func `batches are called until nothing is left, and only if they may delete`() async throws {
        let (database, fixture) = (try TestDatabase.current, try system("app", "trim: {deletes: yes, repeat: yes}"))
        try await database.execute(
            """
            CREATE SCHEMA app; CREATE TABLE app.t AS SELECT g FROM generate_series(1, 25) g;
            -- The path is that of the system, and each batch is a transaction of its own.
            CREATE TABLE app.batches (id bigint DEFAULT pg_current_xact_id()::text::bigint UNIQUE);
            CREATE FUNCTION app.trim(size integer DEFAULT 10) RETURNS bigint LANGUAGE plpgsql AS $$
            DECLARE deleted bigint;
            BEGIN
                INSERT INTO batches DEFAULT VALUES;
                DELETE FROM t WHERE g IN (SELECT g FROM t LIMIT size);
                GET DIAGNOSTICS deleted = ROW_COUNT;
                RETURN deleted;
            END $$
            """)
        #expect(try await run(fixture) == "not called: app.trim (not in upkeep.allow)")
        #expect(try await database.value("SELECT count(*) FROM app.t", as: Int.self) == 25)
        let allowed = ["REEVE_UPKEEP_ALLOW": "app/trim"]
        let skipped = allowed.merging(["REEVE_UPKEEP_SKIP": "app/trim"]) { $1 }
        #expect(try await run(fixture, with: skipped) == "not called: app.trim (in upkeep.skip)")
        #expect(try await run(fixture, with: allowed) == "app.trim: 25 in 4 calls")
        #expect(
            try await lines("SELECT count(*)::text FROM app.t UNION ALL SELECT count(*)::text FROM app.batches")
                == "0 4")
        // A clean-up that is asked for, but does not exist under that name, is not passed over.
        let mistaken = try await run(fixture, with: ["REEVE_UPKEEP_ALLOW": "app/trin"])
        #expect(mistaken.hasPrefix("FAILED app/trin: upkeep.allow or upkeep.skip names it, but no system declares it"))
        #expect(mistaken.contains("did you mean 'app/trim'"))
    }

    @Test func `one that fails, hangs, waits or never ends holds up no other`() async throws {
        let database = try TestDatabase.current
        let first = try system(
            "one",
            "bad: , slow: {timeout: 300ms}, locked: {lock_timeout: 200ms}, endless: {repeat: yes}, negative: {repeat: yes}"
        )
        let second = try system("two", "good: , batch: {repeat: yes}, none: {}")
        try await database.execute(
            """
            CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.t (); CREATE TABLE two.t (n integer);
            CREATE FUNCTION one.bad() RETURNS integer LANGUAGE plpgsql AS
                $$ BEGIN INSERT INTO two.t VALUES (666); RAISE EXCEPTION 'it does not work'; END $$;
            CREATE FUNCTION one.slow() RETURNS integer LANGUAGE sql AS 'SELECT 1 FROM pg_sleep(600)';
            CREATE FUNCTION one.locked() RETURNS integer LANGUAGE plpgsql AS $$ BEGIN LOCK TABLE one.t; RETURN 1; END $$;
            CREATE FUNCTION one.endless() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION one.negative() RETURNS integer LANGUAGE sql AS 'SELECT -1';
            CREATE FUNCTION two.good() RETURNS integer LANGUAGE sql AS 'INSERT INTO two.t VALUES (1) RETURNING 7';
            CREATE FUNCTION two.none() RETURNS void LANGUAGE sql AS 'INSERT INTO two.t VALUES (2)';
            CREATE FUNCTION two.batch() RETURNS integer LANGUAGE sql AS
                'WITH d AS (DELETE FROM two.t WHERE n = 1 RETURNING 1) SELECT count(*)::integer FROM d';
            """)
        let message = try await database.connection { holder in
            try await holder.with { try $0.execute("BEGIN; LOCK TABLE one.t") }
            let message = try await run(first, second, until: .now)
            try await holder.with { try $0.execute("ROLLBACK") }
            return message
        }
        #expect(message.hasPrefix("FAILED one.bad: it does not work (SQLSTATE P0001) (hint: "), "\(message)")
        for part in [
            "one.slow: canceling statement due to statement timeout (SQLSTATE 57014) (hint: raise 'timeout'",
            "one.locked: canceling statement due to lock timeout (SQLSTATE 55P03) (hint: another session holds a lock",
            "one.negative: it returned -1 (hint: ", "one.endless: 1, more is left", "two.good: 7;", "two.none: called",
            "two.batch: 1, more is left",
        ] {
            #expect(message.contains(part), "\(part) in \(message)")
        }
        #expect(try await lines("SELECT n::text FROM two.t") == "2")
        // Once nobody is in the way, the rest is done.
        try await database.execute("DROP FUNCTION one.slow, one.bad, one.negative, one.endless")
        try first.write("system.yaml", "name: one\nupkeep: {locked: {lock_timeout: 200ms}}\n")
        #expect(try await run(first, second) == "one.locked: 1; two.good: 7; two.batch: 1 in 2 calls; two.none: called")
    }

    @Test func `what cannot be called is a finding with a hint`() async throws {
        let database = try TestDatabase.current
        let fixture = try system("app", "missing: , procedure: , needy: , rows: , two: , exact: , text: {repeat: yes}")
        #expect(
            try await run(fixture)
                == "not called: app.missing, app.procedure, app.needy, app.rows, app.two, app.exact, app.text "
                + "(the system's schema does not exist)")
        try await database.execute(
            """
            CREATE SCHEMA app; CREATE PROCEDURE app.procedure() LANGUAGE sql AS '';
            CREATE FUNCTION app.needy(a integer) RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION app.rows() RETURNS SETOF integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION app.two(a integer DEFAULT 1) RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION app.two(a text DEFAULT '') RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION app.exact() RETURNS integer LANGUAGE sql AS 'SELECT 1';
            CREATE FUNCTION app.exact(a text DEFAULT '') RETURNS integer LANGUAGE sql AS 'SELECT 2';
            CREATE FUNCTION app.text() RETURNS text LANGUAGE sql AS 'SELECT ''secret''';
            """)
        let message = try await run(fixture)
        for part in [
            "app.missing: the function does not exist (hint: apply the migrations",
            "app.procedure: it cannot be called without arguments, or is no plain function",
            "app.needy: it cannot be called", "app.rows: it cannot be called",
            "app.two: 2 functions of this name can be called without arguments",
            "app.exact: 2 functions of this name", "app.text: it returns text, not the number of rows of its batch",
        ] {
            #expect(message.contains(part), "\(part) in \(message)")
        }
        #expect(!message.contains("secret"))
    }

    @Test func `mistakes in the section and the settings are told`() throws {
        func mistakes(_ yaml: String) throws -> [String] {
            let fixture = try MigrationFixture()
            try fixture.write("system.yaml", "name: app\nupkeep:\n\(yaml)\n")
            do {
                _ = try SystemFile(folder: fixture.folder, sections: [UpkeepSection.section.key])
                return []
            } catch let error as ConfigurationError {
                return error.all.map { error in
                    error.description.replacing("\(fixture.folder)/system.yaml:", with: "")
                        + (error.hint.map { " (\($0))" } ?? "")
                }
            }
        }
        #expect(
            try mistakes("  f: {delets: yes, timeout: 0s}\n  g: [a]\n  h(): {}\n  i: {repeat: perhaps}") == [
                "3: unknown key 'delets' (did you mean 'deletes')",
                "3: 'timeout': '0s' is not a duration from 1ms to 1d (write 500ms, 30s, 5min, 2h or 1d)",
                "4: 'upkeep.g' must be a map with option, deletes, repeat, timeout, lock_timeout",
                "5: 'h()' is not the name of a function (write the name without schema and parentheses: the function is in "
                    + "the system's schema and is called without arguments)",
                "6: 'repeat': 'perhaps' is neither true nor false",
            ])
        #expect(try mistakes("  [f, g]") == ["3: 'upkeep' must be a map of functions"])
        let review = ConfigurationReview(
            path: nil, environment: ["REEVE_UPKEEP_ALLOW": "a/b,c", "REEVE_UPKEEP_SKIP": "/d"], features: .reeve)
        #expect(
            review.mistakes.map(\.description) == [
                "environment REEVE_UPKEEP_ALLOW: 'c' is not of the form system/function",
                "environment REEVE_UPKEEP_SKIP: '/d' is not of the form system/function",
            ])
    }
}
