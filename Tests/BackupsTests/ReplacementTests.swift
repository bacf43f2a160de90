import Foundation
import Postgres
import Processes
import SQL
import TestSupport
import Testing

@testable import Backups

/// A restored database takes the place of one that is there.
@Suite(.heavy, .database, .timeLimit(.minutes(8)))
struct ReplacementTests {
    /// Lends a database with a connection limit beside the test's own.
    private func beside(_ body: (_ name: String, _ target: ConnectionSettings) async throws -> Void) async throws {
        let database = try TestDatabase.current
        let name = "r_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE DATABASE \(name) CONNECTION LIMIT 17")
        let result: Result<Void, any Error>
        do { result = .success(try await body(name, database.settings.database(name))) } catch {
            result = .failure(error)
        }
        for other in try await names(like: "\(name)%") {
            try? await TestCluster.runSQL("DROP DATABASE IF EXISTS \(quoteIdentifier(other)) WITH (FORCE)")
        }
        try result.get()
    }

    private func names(like pattern: String) async throws -> [String] {
        try await TestDatabase.current.with {
            try $0.query("SELECT datname::text FROM pg_database WHERE datname LIKE $1 ORDER BY 1", [pattern]).map {
                try $0.get(0)
            }
        }
    }

    private func limit(of name: String) async throws -> Int {
        try await TestDatabase.current.value("SELECT datconnlimit FROM pg_database WHERE datname = $1", [name])
    }

    @Test func `when the exchange fails the former database is as it was, and the new one is named`() async throws {
        let manifest = try await Vault.manifest(of: TestDatabase.current.settings)
        try await beside { name, target in
            let error = await #expect(throws: (any Error).self) {
                _ = try await Replacement(of: target, like: manifest).replace { made in
                    // Somebody has taken the name that the former one is to get.
                    let new = try #require(made.parameters["dbname"])
                    try await TestCluster.runSQL(
                        "CREATE DATABASE \(quoteIdentifier(new.replacing("_new_", with: "_before_")))")
                }
            }
            let after = try await limit(of: name)
            #expect(after == 17)
            let new = try #require(try await names(like: "\(name)_new_%").first)
            #expect("\(try #require(error))".contains(new), "\(String(describing: error))")
        }
    }

    @Test func `an exchange of which nobody knows is not told as one that was not made`() async throws {
        let manifest = try await Vault.manifest(of: TestDatabase.current.settings)
        for isCommitted in [true, false] {
            try await beside { name, target in
                let proxy = try FaultProxy(before: target)
                defer { proxy.close() }
                var settings = proxy.settings(target)
                settings.outcomeTimeout = .milliseconds(500)
                let error = await #expect(throws: BackupError.self) {
                    _ = try await Replacement(of: settings, like: manifest).replace { _ in
                        proxy.arm(onText: "COMMIT\u{0}", afterForwarding: isCommitted) { _ in .cutForGood }
                    }
                }
                guard case .exchangeUnknown(name, let made, let later, _, _) = error else {
                    Issue.record("told as \(String(describing: error))")
                    return
                }
                try await waitUntil("the server has done it, or given it up") {
                    try await names(like: "\(name)%").contains(isCommitted ? later : made)
                }
                #expect(error?.hint?.contains("if '\(later)' exists, nothing is left to do") == true)
            }
        }
    }

    @Test func `nobody gets into the new database before it is done`() async throws {
        let manifest = try await Vault.manifest(of: TestDatabase.current.settings)
        let role = "curious_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE ROLE \(role) LOGIN")
        for isKnown in [true, false] {
            var manifest = manifest
            if !isKnown { manifest.access = nil }
            let like = manifest
            try await beside { name, target in
                try await TestCluster.runSQL("ALTER DATABASE \(name) OWNER TO \(role)")
                let (former, _, _) = try await Replacement(of: target, like: like).replace { made in
                    var curious = made
                    curious.parameters["user"] = role
                    let asRole = curious
                    await #expect(throws: PostgresError.self) { try await Connection.opened(asRole) { _ in } }
                }
                let owners = try await TestDatabase.current.with {
                    try $0.query(
                        "SELECT pg_get_userbyid(datdba)::text FROM pg_database WHERE datname IN ($1, $2)",
                        [name, former]
                    ).map { try $0.get(0, as: String.self) }
                }
                #expect(isKnown || owners == [role, role])
            }
        }
        try await TestCluster.runSQL("DROP ROLE \(role)")
    }

    @Test func `a session that comes back at once does not keep the new database out`() async throws {
        let manifest = try await Vault.manifest(of: TestDatabase.current.settings)
        try await beside { name, target in
            let coming = Task {
                while !Task.isCancelled {
                    try? await Connection.opened(target) { connection in
                        try await connection.with { _ = try $0.query("SELECT pg_sleep(60)") }
                    }
                }
            }
            let (former, _, _) = try await Replacement(of: target, like: manifest).replace { made in
                try await Connection.opened(made) { connection in
                    try await connection.with { _ = try $0.execute("CREATE TABLE public.new (a integer)") }
                }
            }
            coming.cancel()
            await coming.value
            let limits = (try await limit(of: former), try await names(like: "\(name)%"))
            #expect(limits == (17, [name, former].sorted()))
            let isNew = try await Connection.opened(target) {
                try await $0.value("SELECT count(*) FROM pg_class WHERE relname = 'new'", as: Int.self)
            }
            #expect(isNew == 1)
        }
    }

    @Test func `a new database with a session is not one that a killed restore has left`() async throws {
        let manifest = try await Vault.manifest(of: TestDatabase.current.settings)
        try await beside { _, target in
            @Sendable func left() async throws -> [String] {
                try await Connection.opened(target) { try await $0.with { try Replacement.unfinished(on: $0) } }
            }
            _ = try await Replacement(of: target, like: manifest).replace { made in
                #expect(try await left() == [made.parameters["dbname"]])
                let others = try await Connection.opened(made) { _ in try await left() }
                #expect(others == [])
            }
        }
    }

    @Test func `a restore that is cancelled when it is complete still replaces the database`() async throws {
        let manifest = try await Vault.manifest(of: TestDatabase.current.settings)
        try await beside { name, target in
            let replacing = Task {
                try await Replacement(of: target, like: manifest).replace { _ in
                    withUnsafeCurrentTask { $0?.cancel() }
                }
            }
            let former = try await replacing.value.former
            #expect(try await names(like: "\(name)%") == [name, former].sorted())
        }
    }

    /// An administrator has opened the database.
    @Test func `the stored state of a closed database is ignored once the database is open`() async throws {
        let database = try TestDatabase.current
        func former() async throws -> String? { try await database.with { try ClosedDatabase.read(on: $0)?.backup } }
        try await database.execute("ALTER DATABASE \(database.name) SET \"reeve.restoring\" TO '10 7 keep b'")
        #expect(try await former() == nil)
        try await database.execute("ALTER DATABASE \(database.name) CONNECTION LIMIT 0")
        #expect(try await former() == "b")
    }

    /// What a database lets whom do, and how many at once.
    private func access(of name: String) async throws -> String {
        try await TestDatabase.current.value(
            """
            SELECT concat_ws(' ', pg_get_userbyid(datdba), datconnlimit, has_database_privilege('public', oid, 'CONNECT'),
                has_database_privilege('public', oid, 'TEMPORARY'),
                (SELECT string_agg(a.privilege_type, ',' ORDER BY a.privilege_type) FROM aclexplode(datacl) a
                    JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname = 'pg_monitor'))
            FROM pg_database WHERE datname = $1
            """, [name])
    }

    @Test func `who may connect comes back with a database that is replaced or made`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        try await TestCluster.runSQL(
            "REVOKE ALL ON DATABASE \(database.name) FROM PUBLIC",
            "GRANT CONNECT, CREATE ON DATABASE \(database.name) TO pg_monitor",
            "ALTER DATABASE \(database.name) CONNECTION LIMIT 23")
        let owner = "owner_\(UUID().uuidString.prefix(8).lowercased())"
        try await TestCluster.runSQL("CREATE ROLE \(owner)", "ALTER DATABASE \(database.name) OWNER TO \(owner)")
        let closed = "\(owner) 23 f f CONNECT,CREATE"
        #expect(try await access(of: database.name) == closed)
        var manifest = try await vault.maker(database.settings).make().manifest
        var settings = vault.restoring
        settings.restoresAccess = true
        for isKnown in [true, false] {
            // Where an earlier version did not write it down, the former database tells.
            if !isKnown { manifest.access = nil }
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: settings)
            try await beside { name, target in
                if !isKnown {
                    try await TestCluster.runSQL("REVOKE ALL ON DATABASE \(name) FROM PUBLIC")
                }
                let (former, _, _) = try await Replacement(of: target, like: manifest).replace {
                    try await restorer.restore(into: $0)
                }
                let (now, before) = (try await access(of: name), try await access(of: former))
                // The former database granted nothing to pg_monitor but what it granted to all.
                #expect(now == (isKnown ? "\(owner) 17 f f CONNECT" : "postgres 17 f f"))
                #expect(before == (isKnown ? "postgres 17 t t" : "postgres 17 f f"))
            }
        }
        // One that others have made keeps its own, but for what the backup does not grant to all.
        manifest = try await vault.maker(database.settings).make().manifest
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        try await beside { name, target in
            try await restorer.restore(into: target)
            #expect(try await access(of: name) == "postgres 17 f f")
            let said = try await restorer.keptAccess(of: target)
            #expect(said?.contains("; connection limit 23; CONNECT to ") == true, "\(said ?? "")")
        }
        let proof = try await vault.prove(manifest)
        #expect(proof.differences.filter { $0.kind == "database" } == [])
        // The test cluster's roles come and go with other tests; the database is what is looked at.
        try await TestCluster.runSQL("ALTER DATABASE \(database.name) OWNER TO postgres", "DROP ROLE \(owner)")
        #expect(proof.report(of: manifest).contains("the owner, the grants and the connection limit"))
    }

    @Test func `a database that lets in others than its source is a difference`() async throws {
        let database = try TestDatabase.current
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        func found() async throws -> [String] {
            try await Comparison(manifest: manifest, restorer: restorer, target: database.settings).differences()
                .filter { $0.kind == "database" }.map(\.found)
        }
        #expect(try await found() == [])
        try await TestCluster.runSQL("REVOKE CONNECT ON DATABASE \(database.name) FROM PUBLIC")
        #expect(try await found().count == 1)
    }

    @Test func `a prepared transaction is said before the work begins`() async throws {
        let vault = try await Vault()
        let manifest = try await vault.maker(TestDatabase.current.settings).make().manifest
        try await beside { name, target in
            let prepared = "p_\(name)"
            try await Connection.opened(target) { connection in
                try await connection.with {
                    _ = try $0.execute("BEGIN; CREATE TABLE public.t (a integer); PREPARE TRANSACTION '\(prepared)'")
                }
            }
            let error = await #expect(throws: (any Error).self) {
                _ = try await Replacement(of: target, like: manifest).replace { _ in Issue.record("work has begun") }
            }
            #expect("\(try #require(error))".contains(prepared), "\(String(describing: error))")
            // It is not in the catalog yet, so that the target counts as empty.
            let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
            let refused = await #expect(throws: BackupError.self) { try await restorer.restore(into: target) }
            guard case .prepared(name, [prepared])? = refused else {
                Issue.record("\(String(describing: refused))")
                return
            }
            #expect(try await limit(of: name) == 17)
            try await Connection.opened(target) { connection in
                try await connection.with { _ = try $0.execute("ROLLBACK PREPARED '\(prepared)'") }
            }
        }
    }
}
