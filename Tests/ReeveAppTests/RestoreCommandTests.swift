import Foundation
import Hashing
import Postgres
import Processes
import SQL
import TestSupport
import Testing

/// Restores of a part, beside what is there, masked, and of everything, as a user runs them.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct RestoreCommandTests {
    /// A folder with a key and a repository, and databases that go with it.
    private final class Place: Sendable {
        let folder = "/tmp/reeve-restores-\(UUID().uuidString.prefix(8))"
        let environment: [String: String]

        init(_ more: [String: String] = [:]) async throws {
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            chmod(folder, 0o755)
            try initializeRepository("\(folder)/repository")
            let key = try await ReeveBinary.json(["backup", "key", "new", "\(folder)/identity"], environment: [:])
            environment = [
                "REEVE_STATE": folder, "REEVE_BACKUP_REPOSITORY": "\(folder)/repository",
                "REEVE_BACKUP_RECIPIENTS": try #require(key.object["recipient"] as? String),
                "REEVE_BACKUP_IDENTITY": "\(folder)/identity",
            ].merging(more) { _, new in new }
        }

        deinit { try? FileManager.default.removeItem(atPath: folder) }

        func run(
            _ settings: ConnectionSettings, _ arguments: String...
        ) async throws -> (object: [String: Any], status: CommandOutcome.Ending) {
            try await ReeveBinary.json(arguments, on: settings, environment: environment)
        }
    }

    /// Lends a database of its own beside that of the test.
    private func beside<T: Sendable>(
        _ database: TestDatabase, _ body: @Sendable (ConnectionSettings) async throws -> T
    ) async throws -> T {
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name)")
        let result: Result<T, any Error>
        do { result = .success(try await body(database.settings.database(name))) } catch { result = .failure(error) }
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
        return try result.get()
    }

    private func value(_ settings: ConnectionSettings, _ sql: String) async throws -> String? {
        try await Connection.opened(settings.plain) { try await $0.value("SELECT (\(sql))::text", as: String?.self) }
    }

    @Test func `a database that is made for a restore is dropped again if the restore fails`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute("CREATE TABLE t AS SELECT 1 AS a")
        let made = try await place.run(database.settings, "backup", "create")
        #expect(made.status == .exited(0), "\(made.object)")
        let name = "made_\(UUID().uuidString.prefix(8).lowercased())"
        let to = database.settings.database(name).uri
        func restore(_ options: String...) async throws -> CommandOutcome.Ending {
            try await ReeveBinary.json(
                ["backup", "restore", "latest", "--to", to, "--no-input"] + options, on: database.settings,
                environment: place.environment
            ).status
        }
        func isThere() async throws -> Bool {
            try await database.value("SELECT count(*) > 0 FROM pg_database WHERE datname = $1", [name])
        }
        #expect(try await restore() == .exited(6))
        #expect(try await restore("--table", "none", "--create") == .exited(1))
        #expect(try await !isThere())
        #expect(try await restore("--table", "public.t", "--create") == .exited(0))
        #expect(try await value(database.settings.database(name), "SELECT count(*) FROM t") == "1")
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
        #expect(try await restore("--create") == .exited(0))
        try await TestCluster.runSQL("DROP DATABASE \(name) WITH (FORCE)")
    }

    @Test func `what find prints restores the table, and a view is told from a table`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute(
            "CREATE TABLE t AS SELECT n AS a FROM generate_series(1, 5) n", "CREATE VIEW v AS SELECT * FROM t")
        _ = try await place.run(database.settings, "backup", "create")
        try await database.execute("DELETE FROM t WHERE a > 2")
        _ = try await place.run(database.settings, "backup", "create")
        try await database.execute("DROP TABLE t CASCADE")
        var environment = place.environment
        environment["REEVE_BACKUP_IDENTITY"] = nil
        func run(_ arguments: String...) async throws -> CommandOutcome {
            try await ReeveBinary.run(arguments, on: database.settings, environment: environment)
        }
        let identity = "\(place.folder)/identity"
        let found = try await run("backup", "find", "--table", "t", "--identity", identity)
        #expect(found.output.contains("changed, 3 rows fewer"), "\(found.output)")
        let line = try #require(found.output.split(separator: "\n").first { $0.contains("reeve backup restore ") })
        let words = line.split(separator: " ").map(String.init)
        #expect(words.suffix(2) == ["--identity", identity])
        let command = words.dropFirst().map { $0 == "URL" ? database.settings.uri : $0 }
        let restored = try await ReeveBinary.run(command, on: database.settings, environment: environment)
        #expect(restored.succeeded, "\(restored.errorOutput)")
        #expect(try await value(database.settings, "SELECT count(*) FROM t") == "2")
        let view = try await run(
            "backup", "restore", "latest", "--table", "v", "--to", database.settings.uri, "--identity", identity)
        #expect(view.errorOutput.contains("v is a view, and only tables can be restored alone"), "\(view.errorOutput)")
    }

    /// Somebody has written a backup into the repository before the database was lost.
    @Test func `a recovered database takes over no backup that cannot be relied on`() async throws {
        let key = "/tmp/reeve-signing-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: key) }
        _ = try await ReeveBinary.json(["backup", "key", "new-signing", key], environment: [:])
        let place = try await Place(["REEVE_BACKUP_SIGNING_KEY": key])
        try await beside(try TestDatabase.current) { settings in
            let made = try await place.run(settings, "backup", "create")
            let genuine = try #require((made.object["backup"] as? [String: Any])?["id"] as? String)
            let forged = "\(genuine.dropLast(8))ffffffff"
            func manifest(_ id: String) -> String { "\(place.folder)/repository/main/\(id)/manifest.json" }
            let lines = try String(contentsOfFile: manifest(genuine), encoding: .utf8).split(separator: "\n")
            let body = lines[0].replacing("\"id\":\"\(genuine)\"", with: "\"id\":\"\(forged)\"")
            try FileManager.default.createDirectory(
                atPath: "\(place.folder)/repository/main/\(forged)", withIntermediateDirectories: true)
            try "\(body)\n\(Digest.hex(Digest.of(Array(body.utf8))))\n".write(
                toFile: manifest(forged), atomically: true, encoding: .utf8)
            try await TestCluster.runSQL("DROP DATABASE \(settings.parameters["dbname"] ?? "") WITH (FORCE)")
            let recovered = try await place.run(settings, "recover", "--no-input", "--allow-older")
            #expect(recovered.status == .exited(0), "\(recovered.object)")
            let signed = try await place.run(settings, "backup", "key", "sign")
            #expect(signed.status == .exited(3) && "\(signed.object)".contains(forged), "\(signed.object)")
            #expect(try String(contentsOfFile: manifest(forged), encoding: .utf8).split(separator: "\n").count == 2)
        }
    }

    @Test func `a table is fetched by itself, beside what is there`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute(
            """
            CREATE SCHEMA shop; CREATE TYPE shop.state AS ENUM ('new', 'done');
            CREATE TABLE shop.people (id integer PRIMARY KEY, name text);
            CREATE TABLE shop.orders (id serial PRIMARY KEY, person integer REFERENCES shop.people, state shop.state,
                at date DEFAULT '2026-01-01') ;
            CREATE INDEX orders_by_state ON shop.orders (state);
            ALTER TABLE shop.orders ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON shop.orders USING (id > 0);
            INSERT INTO shop.people VALUES (1, 'Ann'); INSERT INTO shop.orders (person, state) VALUES (1, 'new'), (1, 'done');
            CREATE TABLE shop.events (at date) PARTITION BY RANGE (at);
            CREATE TABLE shop.events_26 PARTITION OF shop.events FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
            INSERT INTO shop.events VALUES ('2026-02-03')
            """)
        let made = try await place.run(database.settings, "backup", "create")
        #expect(made.status == .exited(0), "\(made.object)")
        try await database.execute("DELETE FROM shop.orders WHERE id = 1", "DROP TABLE shop.events")
        let to = database.settings.uri
        // Where it was: it is there.
        let there = try await place.run(
            database.settings, "backup", "restore", "latest", "--to", to, "--table", "shop.orders")
        #expect(there.status == .exited(1), "\(there.object)")
        let moved = try await place.run(
            database.settings, "backup", "restore", "latest", "--to", to, "--table", "shop.orders", "--into-schema",
            "rescue")
        // Its key names where it was.
        #expect(moved.status == .exited(3), "\(moved.object)")
        let left = try #require(moved.object["notes"] as? [String])
        #expect(left.count == 1 && left[0].contains("orders_person_fkey"), "\(left)")
        let count = try await value(database.settings, "SELECT count(*) FROM rescue.orders")
        #expect(count == "2")
        let parts = try await value(
            database.settings,
            """
            SELECT (SELECT string_agg(indexname, ',' ORDER BY indexname DESC) FROM pg_indexes WHERE schemaname = 'rescue')
                || (SELECT count(*) FROM pg_policies WHERE schemaname = 'rescue')
            """)
        #expect(parts == "orders_pkey,orders_by_state1")
        // A partitioned table with its partitions, where it was.
        let whole = try await place.run(
            database.settings, "backup", "restore", "latest", "--to", to, "--table", "shop.events")
        #expect(whole.status == .exited(0), "\(whole.object)")
        let events = try await value(database.settings, "SELECT count(*) FROM shop.events")
        #expect(events == "1")
        // With its key, once what it points to is there.
        try await database.execute("DROP TABLE shop.orders")
        let again = try await place.run(
            database.settings, "backup", "restore", "latest", "--to", to, "--table", "orders")
        #expect(again.status == .exited(0) && (again.object["notes"] as? [String]) == [], "\(again.object)")
        let keys = try await value(
            database.settings,
            "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'shop.orders'::regclass")
        let next = try await value(database.settings, "SELECT nextval('shop.orders_id_seq')")
        #expect(keys == "1" && next == "3")
        let none = try await place.run(
            database.settings, "backup", "restore", "latest", "--to", to, "--table", "shop.nothing")
        #expect(none.status == .exited(1))
        // A schema, into a database that has none of it.
        try await beside(database) { target in
            let schema = try await place.run(
                database.settings, "backup", "restore", "latest", "--to", target.uri, "--schema", "shop")
            #expect(schema.status == .exited(0), "\(schema.object)")
            let rows = try await value(
                target, "SELECT count(*) FROM shop.orders o JOIN shop.people p ON p.id = o.person")
            #expect(rows == "2")
        }
    }

    @Test func `a restore that is killed leaves nothing of the tables`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute(
            "CREATE SCHEMA big",
            "CREATE TABLE big.t AS SELECT i, md5(i::text) AS noise FROM generate_series(1, 1500000) i")
        let made = try await place.run(database.settings, "backup", "create")
        #expect(made.status == .exited(0), "\(made.object)")
        try await database.execute("DROP SCHEMA big CASCADE")
        let reeve = try RunningReeve(
            ["backup", "restore", "latest", "--to", database.settings.uri, "--schema", "big"],
            environment: ReeveBinary.environment(database.settings, place.environment))
        try await database.connection { connection in
            try await waitUntil("rows come", limit: .seconds(120)) {
                try await connection.value(
                    """
                    SELECT count(*) > 0 FROM pg_stat_progress_copy
                    WHERE datname = current_database() AND tuples_processed > 1000
                    """)
            }
        }
        reeve.signal(SIGKILL)
        let status = try await reeve.end()
        try await waitUntil("its sessions end") {
            try await database.value(
                """
                SELECT count(*) = 0 FROM pg_stat_activity
                WHERE datname = current_database() AND application_name LIKE 'reeve%' AND pid <> pg_backend_pid()
                """)
        }
        let left = try await value(database.settings, "SELECT count(*) FROM pg_namespace WHERE nspname = 'big'")
        #expect(status == -SIGKILL && left == "0")
    }

    @Test func `constraints that an interrupted restore has not made are made by the same command`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute(
            """
            CREATE SCHEMA shop; CREATE TABLE shop.people (id integer PRIMARY KEY); INSERT INTO shop.people VALUES (1);
            CREATE TABLE shop.orders (id integer PRIMARY KEY, person integer REFERENCES shop.people);
            INSERT INTO shop.orders VALUES (1, 1)
            """)
        let made = try await place.run(database.settings, "backup", "create")
        #expect(made.status == .exited(0), "\(made.object)")
        try await database.execute("DROP TABLE shop.orders")
        let command = ["backup", "restore", "latest", "--to", database.settings.uri, "--table", "shop.orders"]
        try await database.connection { writer in
            try await writer.with { try $0.execute("BEGIN; INSERT INTO shop.people VALUES (2)") }
            let reeve = try RunningReeve(
                command, environment: ReeveBinary.environment(database.settings, place.environment))
            try await waitUntil("the key waits for the writer", limit: .seconds(60)) {
                try await database.waitersForLocks() == 1
            }
            reeve.signal(SIGKILL)
            #expect(try await reeve.end() == -SIGKILL)
            try await database.execute(
                """
                SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
                WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0
                """)
            try await writer.with { _ = try $0.execute("ROLLBACK") }
        }
        let keys = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'shop.orders'::regclass"
        #expect(try await value(database.settings, keys) == "0")
        let again = try await ReeveBinary.run(command, on: database.settings, environment: place.environment)
        #expect(again.ending == .exited(1) && again.errorOutput.contains("--constraints"), "\(again.errorOutput)")
        #expect(again.errorOutput.contains("orders_person_fkey of shop.orders"), "\(again.errorOutput)")
        let doctor = ["doctor", "--only", "restores"]
        let named = try await ReeveBinary.run(doctor, on: database.settings, environment: place.environment)
        #expect(named.output.contains("orders_person_fkey of shop.orders"), "\(named.output)")
        // The newest backup is one without the key now.
        let newer = try await place.run(database.settings, "backup", "create")
        #expect(newer.status == .exited(0), "\(newer.object)")
        let finished = try await ReeveBinary.json(
            command + ["--constraints"], on: database.settings, environment: place.environment)
        #expect(finished.status == .exited(0) && (finished.object["notes"] as? [String]) == [], "\(finished.object)")
        #expect(finished.object["backup"] as? String == (made.object["backup"] as? [String: Any])?["id"] as? String)
        #expect(try await value(database.settings, keys) == "1")
        let healthy = try await ReeveBinary.run(doctor, on: database.settings, environment: place.environment)
        #expect(healthy.succeeded && !healthy.output.contains("orders_person_fkey"), "\(healthy.output)")
        // Without a record there is nothing to go by.
        let none = try await ReeveBinary.run(
            command + ["--constraints"], on: database.settings, environment: place.environment)
        #expect(none.ending == .exited(1) && none.errorOutput.contains("no record"), "\(none.errorOutput)")
    }

    /// On a server of its own: the check names every unfinished restore on a server, also those of other tests.
    @Test func `a database that an interrupted restore has left is named`() async throws {
        let place = try await Place()
        func execute(_ settings: ConnectionSettings, _ statements: String...) async throws {
            try await Connection.opened(settings) { connection in
                try await connection.with { for sql in statements { try $0.execute(sql) } }
            }
        }
        try await OwnServer.with { server in
            let settings = server.database("shop")
            try await execute(server, "CREATE DATABASE shop")
            try await execute(
                settings, "CREATE TABLE public.t AS SELECT i, md5(i::text) AS noise FROM generate_series(1, 1500000) i")
            func doctor() async throws -> CommandOutcome {
                try await ReeveBinary.run(
                    ["doctor", "--only", "restores"], on: settings, environment: place.environment)
            }
            let made = try await place.run(settings, "backup", "create")
            #expect(made.status == .exited(0), "\(made.object)")
            let reeve = try RunningReeve(
                ["backup", "restore", "latest", "--to", settings.uri, "--confirm", "shop"],
                environment: ReeveBinary.environment(settings, place.environment))
            try await waitUntil("rows come", limit: .seconds(120)) {
                try await value(
                    server,
                    """
                    SELECT count(*) > 0 FROM pg_stat_progress_copy
                    WHERE datname LIKE 'shop\\_new\\_%' AND tuples_processed > 1000
                    """) == "true"
            }
            reeve.signal(SIGKILL)
            #expect(try await reeve.end() == -SIGKILL)
            try await waitUntil("its sessions end", limit: .seconds(60)) {
                try await value(
                    server, "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname LIKE 'shop\\_new\\_%'") == "true"
            }
            let left = try #require(
                try await value(server, "SELECT datname FROM pg_database WHERE datname LIKE 'shop\\_new\\_%'"))
            let found = try await doctor()
            #expect(found.output.contains("DROP DATABASE \(quoteIdentifier(left))"), "\(found.output)")
            try await execute(server, "DROP DATABASE \(left) WITH (FORCE)")
            let none = try await doctor()
            #expect(none.succeeded && !none.output.contains("_new_"), "\(none.output)")
            // One that was itself closed for a restore.
            try await execute(
                server, "ALTER DATABASE shop CONNECTION LIMIT 0",
                "ALTER DATABASE shop SET \"reeve.restoring\" TO '10 -1 keep 20261121T030000Z'")
            let closed = try await doctor()
            #expect(closed.output.contains("the database contains a part of 20261121T030000Z"), "\(closed.output)")
        }
    }

    @Test func `what is in the target stays in a database beside it`() async throws {
        let database = try TestDatabase.current
        let marker = "/tmp/reeve-hook-\(UUID().uuidString.prefix(8))"
        let place = try await Place([
            "REEVE_BACKUP_HOOKS_RESTORED": "echo \"$REEVE_RESTORE_URL\" > \(marker)",
            "REEVE_BACKUP_HOOKS_AFTER": "echo \"$REEVE_BACKUP_STATE $REEVE_BACKUP_ID\" > \(marker).after",
        ])
        try await database.execute("CREATE TABLE t (a integer)", "INSERT INTO t VALUES (1)")
        let first = try await place.run(database.settings, "backup", "create")
        let id = try #require((first.object["backup"] as? [String: Any])?["id"] as? String)
        #expect(try String(contentsOfFile: "\(marker).after", encoding: .utf8) == "done \(id)\n")
        let started = try #require((first.object["backup"] as? [String: Any])?["started_at"] as? String)
        try await database.execute("INSERT INTO t VALUES (2)")
        _ = try await place.run(database.settings, "backup", "create")
        try await beside(database) { target in
            let name = try #require(target.parameters["dbname"])
            try await Connection.opened(target.plain) { connection in
                try await connection.with { _ = try $0.execute("CREATE TABLE old (a integer)") }
            }
            let unsure = try await place.run(
                database.settings, "backup", "restore", "latest", "--to", target.uri, "--no-input")
            #expect(unsure.status == .exited(6))
            let swapped = try await place.run(
                database.settings, "backup", "restore", "--as-of", started, "--to", target.uri, "--confirm=\(name)")
            #expect(swapped.status == .exited(0), "\(swapped.object)")
            let rows = try await value(target, "SELECT count(*) FROM t")
            #expect(rows == "1")
            let former = try await value(
                target, "SELECT datname FROM pg_database WHERE datname LIKE '\(name)_before_%'")
            let kept = try await value(target.database(try #require(former)), "SELECT count(*) FROM old")
            #expect(kept == "0")
            try await TestCluster.runSQL("DROP DATABASE \(try #require(former)) WITH (FORCE)")
            #expect(FileManager.default.fileExists(atPath: marker))
        }
        // A hook that fails before it: no backup.
        let refusing = try await Place(["REEVE_BACKUP_HOOKS_BEFORE": "echo no >&2; exit 3"])
        let refused = try await refusing.run(database.settings, "backup", "create")
        #expect(refused.status == .exited(1) && "\(refused.object)".contains("no"))
        let listed = try await refusing.run(database.settings, "backup", "list")
        #expect((listed.object["backups"] as? [Any])?.isEmpty == true)
    }

    @Test(.server(has: .extension("citext"))) func `a database that holds only a function is not empty`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        let made = try await place.run(database.settings, "backup", "create")
        #expect(made.status == .exited(0), "\(made.object)")
        try await beside(database) { target in
            try await Connection.opened(target.plain) { connection in
                try await connection.with {
                    _ = try $0.execute(
                        """
                        CREATE EXTENSION citext;
                        CREATE FUNCTION public.used() RETURNS integer LANGUAGE sql AS 'SELECT 1'
                        """)
                }
            }
            let refused = try await ReeveBinary.run(
                ["backup", "restore", "latest", "--to", target.uri, "--no-input"], on: database.settings,
                environment: place.environment)
            #expect(refused.ending == .exited(6) && refused.errorOutput.contains("it contains 1 object"))
        }
    }

    @Test func `a backup whose hook fails after it was made is there`() async throws {
        let database = try TestDatabase.current
        let place = try await Place(["REEVE_BACKUP_HOOKS_AFTER": "echo no >&2; exit 3"])
        let made = try await place.run(database.settings, "backup", "create")
        let listed = try await place.run(database.settings, "backup", "list")
        let backups = try #require(listed.object["backups"] as? [[String: Any]])
        let id = try #require(backups.first?["id"] as? String)
        #expect(made.status == .exited(1))
        #expect("\(made.object)".contains("backup \(id) was made, but the hook"), "\(made.object)")
        let succeeded: [Bool] = try await database.with {
            try $0.query("SELECT succeeded FROM reeve.backup_attempts").map { try $0.get(0) }
        }
        #expect(succeeded == [true])
    }

    /// The key of a lock without a ledger is known to everybody, and is another one than with it.
    @Test func `keys are changed and backups removed under the ledger's own lock`() async throws {
        let database = try TestDatabase.current
        let place = try await Place(["REEVE_BACKUP_KEEP_DAILY": "1", "REEVE_BACKUP_KEEP_AT_LEAST": "1"])
        for _ in 0..<2 { _ = try await place.run(database.settings, "backup", "create") }
        _ = try await place.run(database.settings, "backup", "test")
        let made = try await place.run(database.settings, "backup", "create")
        let name = try #require((made.object["backup"] as? [String: Any])?["database"] as? String)
        try await database.execute("DROP SCHEMA reeve CASCADE")
        try await database.connection { holder in
            let isHeld = try await AdvisoryLock("reeve backup", secret: "").acquire(
                on: holder, wait: .zero, waiting: { _ in })
            #expect(isHeld)
            let rewrapped = try await place.run(
                database.settings, "backup", "key", "rewrap", "--identity", "\(place.folder)/identity")
            // The new ledger is another one's, until it is said that it is not.
            #expect(rewrapped.status == .exited(4) && "\(rewrapped.object)".contains("another database"))
            let pruned = try await place.run(database.settings, "backup", "prune", "--confirm=\(name)")
            #expect(pruned.status == .exited(4), "\(pruned.object)")
            let unsure = try await place.run(database.settings, "backup", "create", "--adopt", "--no-input")
            #expect(unsure.status == .exited(6), "\(unsure.object)")
            let adopted = try await place.run(
                database.settings, "backup", "create", "--adopt", "--confirm=\(name)")
            #expect(adopted.status == .exited(0), "\(adopted.object)")
            let again = try await place.run(
                database.settings, "backup", "key", "rewrap", "--identity", "\(place.folder)/identity")
            #expect(again.status == .exited(0), "\(again.object)")
        }
        let ledgers: Int = try await database.value("SELECT count(*) FROM reeve.ledger")
        #expect(ledgers == 1)
    }

    @Test func `a copy for others is masked`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        let system = "\(place.folder)/app"
        try FileManager.default.createDirectory(atPath: system, withIntermediateDirectories: true)
        try """
        name: app
        mask:
          people:
            email: fake
            secret: "null"
            code: hash
            born: hash
        """.write(toFile: "\(system)/system.yaml", atomically: true, encoding: .utf8)
        try """
        CREATE TABLE people (id integer PRIMARY KEY, email text UNIQUE, secret text, code varchar(10), born date);
        """.write(toFile: "\(system)/0001_people.up.sql", atomically: true, encoding: .utf8)
        let masked = try await Place(["REEVE_SYSTEMS": system])
        _ = try await masked.run(database.settings, "migrate", "up")
        try await database.execute(
            "INSERT INTO app.people SELECT i, 'p' || i || '@real.example', 'x', 'c' || i, '1990-01-01' FROM generate_series(1, 50) i"
        )
        let made = try await masked.run(database.settings, "backup", "create")
        #expect(made.status == .exited(0), "\(made.object)")
        try await beside(database) { target in
            let restored = try await masked.run(
                database.settings, "backup", "restore", "latest", "--to", target.uri, "--mask")
            #expect(restored.status == .exited(0), "\(restored.object)")
            let left = try await value(
                target,
                """
                SELECT count(*) FROM app.people WHERE email LIKE '%real%' OR secret IS NOT NULL OR code LIKE 'c%'
                    AND length(code) < 4 OR born = '1990-01-01'
                """)
            let distinct = try await value(target, "SELECT count(DISTINCT email) FROM app.people")
            #expect(left == "0" && distinct == "50")
        }
        // A slip of the pen leaves nothing open.
        try "name: app\nmask:\n  people:\n    emial: fake\n".write(
            toFile: "\(system)/system.yaml", atomically: true, encoding: .utf8)
        try await beside(database) { target in
            let slipped = try await masked.run(
                database.settings, "backup", "restore", "latest", "--to", target.uri, "--mask")
            #expect(slipped.status == .exited(1) && "\(slipped.object)".contains("emial"))
        }
    }

    @Test func `the estate is recovered from repository and configuration alone`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute("CREATE TABLE t (a integer)", "INSERT INTO t VALUES (1), (2)")
        // A second one, so that the ledger in it knows the first.
        for _ in 0..<2 {
            let made = try await place.run(database.settings, "backup", "create")
            #expect(made.status == .exited(0), "\(made.object)")
        }
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        let target = database.settings.database(name)
        let planned = try await place.run(target, "recover", "--dry-run")
        #expect(planned.status == .exited(0), "\(planned.object)")
        let recovered = try await place.run(target, "recover")
        #expect(recovered.status == .exited(0), "\(recovered.object)")
        let rows = try await value(target, "SELECT count(*) FROM t")
        let known = try await value(target, "SELECT count(*) FROM reeve.backups")
        let restored = try await value(target, "SELECT count(*) FROM reeve.audit WHERE entry LIKE '%backup.restored%'")
        #expect(rows == "2" && known == "2" && restored == "1")
        let again = try await place.run(target, "recover", "--no-input")
        #expect(again.status == .exited(6))
        let intact = try await place.run(target, "audit", "verify")
        #expect(intact.status == .exited(0), "\(intact.object)")
        try await TestCluster.runSQL("DROP DATABASE IF EXISTS \(name) WITH (FORCE)")
    }

    @Test func `the doctor tells which backups no known key opens`() async throws {
        let database = try TestDatabase.current
        let place = try await Place()
        try await database.execute("CREATE TABLE t (a integer)")
        let none = try await place.run(database.settings, "doctor")
        #expect(none.status == .exited(3) && "\(none.object)".contains("there are no backups"))
        _ = try await place.run(database.settings, "backup", "create")
        _ = try await place.run(database.settings, "backup", "test")
        let well = try await place.run(database.settings, "doctor")
        #expect(well.status == .exited(0), "\(well.object)")
        let drill = try await place.run(
            database.settings, "backup", "key", "drill", "\(place.folder)/identity")
        #expect(drill.status == .exited(3), "one key alone is not safe")
        let stranger = try await Place(["REEVE_BACKUP_REPOSITORY": "\(place.folder)/repository"])
        let closed = try await stranger.run(database.settings, "doctor")
        #expect(closed.status == .exited(3) && "\(closed.object)".contains("none of the given identities opens"))
        // The old key once more, for the new recipients of the stranger.
        let rewrapped = try await stranger.run(
            database.settings, "backup", "key", "rewrap", "--identity", "\(place.folder)/identity")
        #expect(rewrapped.status == .exited(0), "\(rewrapped.object)")
        let opened = try await stranger.run(database.settings, "doctor")
        #expect(opened.status == .exited(0), "\(opened.object)")
    }
}
