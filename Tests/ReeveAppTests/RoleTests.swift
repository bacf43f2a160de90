import Foundation
import Postgres
import Processes
import TestSupport
import Testing

@testable import Kernel
@testable import ReeveApp

/// Every task, and the commands that people use most, as the roles that people connect with.
@Suite(.database, .heavy, .timeLimit(.minutes(6)))
struct RoleTests {
    private static let system = [
        "0001_first.up.sql": """
        CREATE TABLE t (id integer PRIMARY KEY, a text CHECK (a <> ''));
        INSERT INTO t SELECT g, 'x' FROM generate_series(1, 200) g;
        """
    ]

    private struct Place {
        let folder = "/tmp/reeve-roles-\(UUID().uuidString.prefix(8).lowercased())"
        let fixture: MigrationFixture
        var environment: [String: String] {
            [
                "REEVE_SYSTEMS": fixture.folder, "REEVE_BACKUP_REPOSITORY": "\(folder)/repository",
                "REEVE_BACKUP_ENCRYPTION": "none", "REEVE_STATE": "\(folder)/state",
            ]
        }

        init() throws {
            fixture = try MigrationFixture(RoleTests.system)
            try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
            chmod(folder, 0o755)
            try initializeRepository("\(folder)/repository")
        }
    }

    /// Settings of a role with these attributes, which is the owner of the test's database on request.
    private func role(_ name: String, _ attributes: String, owns: Bool) async throws -> ConnectionSettings {
        let database = try TestDatabase.current
        try await database.execute("CREATE ROLE \(name) LOGIN \(attributes)")
        if owns { try await database.execute("ALTER DATABASE \(database.name) OWNER TO \(name)") }
        var settings = database.settings
        settings.parameters["user"] = name
        return settings
    }

    private func drop(_ role: String) async throws {
        let database = try TestDatabase.current
        try await database.execute(
            "ALTER DATABASE \(database.name) OWNER TO CURRENT_USER", "DROP OWNED BY \(role) CASCADE",
            "DROP ROLE \(role)")
    }

    private static let commands: [[String]] = [
        ["migrate", "plan"], ["migrate", "up"], ["migrate", "status"], ["migrate", "verify"], ["schema", "validate"],
        ["schema", "show"], ["schema", "snapshot"], ["backup", "create"], ["backup", "list"], ["backup", "show"],
        ["backup", "verify"], ["backup", "test"], ["audit", "anchor"], ["audit", "verify"], ["task", "history"],
        ["doctor"],
    ]

    @Test(arguments: ["", "SUPERUSER"])
    func `the owner of a database, and a superuser, can run every task and command`(attributes: String) async throws {
        let name = "o_\(UUID().uuidString.prefix(8).lowercased())"
        let settings = try await role(name, attributes, owns: true)
        let place = try Place()
        defer { try? FileManager.default.removeItem(atPath: place.folder) }
        let tasks = FeatureList.reeve.tasks.map { ["task", "run", $0.name] }
        if attributes.isEmpty { try await checkReplay(settings, place) }
        // Twice: what the first run leaves behind, the second one finds.
        for command in Self.commands + tasks + [["task", "run", "analyze"], ["schema", "validate"]] {
            let outcome = try await ReeveBinary.run(
                command, on: settings, environment: place.environment, limit: .seconds(240))
            #expect(outcome.succeeded, "\(command.joined(separator: " ")): \(outcome.output) \(outcome.errorOutput)")
        }
        let history = try await ReeveBinary.json(["task", "history"], on: settings, environment: place.environment)
        let runs = (history.object["runs"] as? [[String: Any]]) ?? []
        #expect(runs.count == tasks.count + 1)
        let all = try await tables()
        #expect(runs.first?["message"] as? String == "analysed 0 of \(all) tables")
        try await drop(name)
    }

    /// A role that may not create databases is told so, and compares with committed snapshots.
    private func checkReplay(_ settings: ConnectionSettings, _ place: Place) async throws {
        #expect(try await ReeveBinary.run(["migrate", "up"], on: settings, environment: place.environment).succeeded)
        let refused = try await ReeveBinary.run(["schema", "validate"], on: settings, environment: place.environment)
        #expect(refused.ending == .exited(1))
        #expect(refused.errorOutput.contains("hint: grant the role CREATEDB"), "\(refused.errorOutput)")
        // Elsewhere, where a role may create databases.
        let elsewhere = "\(try TestDatabase.current.name)_snap"
        try await TestCluster.runSQL("CREATE DATABASE \(elsewhere)")
        let written = try await ReeveBinary.run(
            ["schema", "snapshot", "--write"], on: TestDatabase.current.settings.database(elsewhere),
            environment: place.environment)
        #expect(written.succeeded, "\(written.errorOutput)")
        try await TestCluster.runSQL("DROP DATABASE \(elsewhere) WITH (FORCE)")
    }

    private func tables() async throws -> Int {
        try await TestDatabase.current.value("SELECT count(*) FROM pg_tables WHERE schemaname IN ('app', 'reeve')")
    }

    /// Of `reeve_monitor`, and of anybody else without rights in the database.
    @Test func `a role without rights is refused, and told what it lacks`() async throws {
        let name = "m_\(UUID().uuidString.prefix(8).lowercased())"
        let settings = try await role(name, "IN ROLE pg_monitor", owns: false)
        let place = try Place()
        defer { try? FileManager.default.removeItem(atPath: place.folder) }
        for task in FeatureList.reeve.tasks {
            let outcome = try await ReeveBinary.run(
                ["task", "run", task.name], on: settings, environment: place.environment)
            #expect(outcome.ending == .exited(4), "\(task.name): \(outcome.output)")
            #expect(outcome.errorOutput.contains("permission denied for database"), "\(outcome.errorOutput)")
            #expect(outcome.errorOutput.contains("hint: GRANT CREATE ON DATABASE"), "\(outcome.errorOutput)")
        }
        #expect(try await ReeveBinary.run(["migrate", "plan"], on: settings, environment: place.environment).succeeded)
        let superuser = try TestDatabase.current.settings
        #expect(try await ReeveBinary.run(["migrate", "up"], on: superuser, environment: place.environment).succeeded)
        let outcome = try await ReeveBinary.run(["migrate", "plan"], on: settings, environment: place.environment)
        #expect(outcome.ending == .exited(4), "\(outcome.output)")
        #expect(outcome.errorOutput.contains("the ledger (the schema 'reeve') belongs to"), "\(outcome.errorOutput)")
        try await drop(name)
    }

    /// A table of another role is the business of that role.
    @Test func `analyze leaves alone what the role may not analyze`() async throws {
        let database = try TestDatabase.current
        let name = "a_\(UUID().uuidString.prefix(8).lowercased())"
        let settings = try await role(name, "", owns: false)
        try await database.execute("GRANT CREATE ON DATABASE \(database.name) TO \(name)")
        let place = try Place()
        defer { try? FileManager.default.removeItem(atPath: place.folder) }
        #expect(try await ReeveBinary.run(["migrate", "up"], on: settings, environment: place.environment).succeeded)
        try await database.execute(
            "CREATE TABLE app.foreign_one (a int)", "INSERT INTO app.foreign_one SELECT generate_series(1, 200)")
        let runs = try await ReeveBinary.json(
            ["task", "run", "analyze"], on: settings, environment: place.environment)
        let message = ((runs.object["runs"] as? [[String: Any]])?.first?["message"] as? String) ?? ""
        let all = try await tables()
        #expect(runs.status == .exited(0) && message.hasSuffix(" of \(all - 1) tables"), "\(message)")
        try await database.execute("DROP TABLE app.foreign_one")
        try await drop(name)
    }

    /// Whatever command makes the state folder, the account of the embedded server can enter it.
    @Test(arguments: [["schema", "validate"], ["audit", "anchor"]])
    func `a state folder can be entered, whichever command made it`(command: [String]) async throws {
        let settings = try TestDatabase.current.settings
        let place = try Place()
        defer { try? FileManager.default.removeItem(atPath: place.folder) }
        let up = try await ReeveBinary.run(["migrate", "up"], on: settings, environment: place.environment)
        #expect(up.succeeded, "\(up.errorOutput)")
        try? FileManager.default.removeItem(atPath: "\(place.folder)/state")
        let shell = try await Command(
            "sh", ["-c", "umask 077; exec \"$@\"", "sh", ReeveBinary.path] + command,
            environment: ReeveBinary.environment(settings, place.environment)
        ).run()
        #expect(shell.succeeded, "\(shell.errorOutput)")
        let mode = try FileManager.default.attributesOfItem(atPath: "\(place.folder)/state")[.posixPermissions] as? Int
        #expect(mode == 0o755)
        let embedded = try await ReeveBinary.run(
            ["migrate", "status"], environment: ["REEVE_STATE": "\(place.folder)/state", "REEVE_SYSTEMS": "publisher"])
        #expect(embedded.ending == .exited(3), "\(embedded.errorOutput)")
    }
}
