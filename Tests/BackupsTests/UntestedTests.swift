import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups
@testable import Processes

/// A restore test that could not be carried out says nothing of the backup.
@Suite(.heavy, .timeLimit(.minutes(8)))
struct UntestedTests {
    private static func processes(_ program: String, of argument: String) -> [pid_t] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.compactMap { pid_t($0) }.filter { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline") else { return false }
            let words = String(decoding: line, as: UTF8.self).split(separator: "\0").map(String.init)
            return words.first?.hasSuffix("/\(program)") == true
                && words.contains { $0.removingPercentEncoding?.contains(argument) == true }
        }
    }

    /// Whether a server whose data lie below a folder takes rows, by the title of its process. What another mount
    /// namespace calls the folder may have more in front.
    private static func isCopying(below folder: String) -> Bool {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.contains { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline"),
                let place = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/cwd")
            else { return false }
            let title = String(decoding: line, as: UTF8.self)
            return place.contains(folder) && title.hasPrefix("postgres: ") && title.contains(" COPY")
        }
    }

    /// The servers, without their sessions, whose data lie below a folder.
    private static func servers(below folder: String) -> [pid_t] {
        let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return all.compactMap { pid_t($0) }.filter { pid in
            guard let line = FileManager.default.contents(atPath: "/proc/\(pid)/cmdline"),
                let place = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(pid)/cwd")
            else { return false }
            return place.contains(folder)
                && String(decoding: line, as: UTF8.self).split(separator: "\0").first?
                    .hasSuffix("/postgres") == true
        }
    }

    private func fill(_ database: TestDatabase) async throws {
        try await database.execute(
            """
            CREATE TABLE noise AS
                SELECT i, (SELECT string_agg(md5(random()::text || i || j), '') FROM generate_series(1, 30) j)
                FROM generate_series(1, 60000) i
            """,
            // So that there is time to end what restores it.
            """
            CREATE FUNCTION slow(i integer) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
                IF i = 7 AND current_setting('application_name') = 'reeve backup' THEN PERFORM pg_sleep(6); END IF;
                RETURN true; END $$
            """,
            "ALTER TABLE noise ADD CHECK (slow(i))")
    }

    @Test(.database, arguments: ["pg_restore", "postgres"])
    func aProgramThatIsKilledRefutesNothing(program: String) async throws {
        let database = try TestDatabase.current
        try await fill(database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await vault.repository.store.write(Array("former".utf8), to: "\(manifest.prefix)/\(Proof.name)")
        let test = Task { try await vault.prove(manifest) }
        // The server is at the row at which it rests.
        try await waitUntil("the rows are on their way into the table") {
            !Self.processes("pg_restore", of: vault.folder).isEmpty && Self.isCopying(below: vault.folder)
        }
        if program == "pg_restore" {
            for pid in Self.processes(program, of: vault.folder) { kill(pid, SIGKILL) }
        } else {
            // Not by its pid file, for it may run in a namespace where it has another number.
            let server = try #require(Self.servers(below: vault.folder).first)
            kill(server, SIGQUIT)
        }
        switch await test.result {
        case .success(let proof): Issue.record("\(proof)")
        case .failure(let error): #expect("\(error)".contains("could not be restored"), "\(error)")
        }
        let former = try await vault.repository.store.bytes(of: "\(manifest.prefix)/\(Proof.name)")
        #expect(former == Array("former".utf8))
        #expect(try await vault.prove(manifest).isProved)
    }

    /// A file system of its own wants the right to mount one.
    @Test(.database, .enabled(if: getuid() == 0)) func aFullScratchDiskRefutesNothing() async throws {
        let database = try TestDatabase.current
        try await fill(database)
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        let folder = "\(vault.folder)/small"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let bytes = manifest.databaseBytes + (24 << 20)
        let mounted = try await Command(
            "mount", ["-t", "tmpfs", "-o", "size=\(bytes),mode=755", "tmpfs", folder]
        ).run(limit: .seconds(10))
        // A container may not.
        guard mounted.succeeded else { return }
        let result = await Task {
            try await RestoreTest(
                repository: vault.repository, manifest: manifest, settings: vault.restoring, folder: folder
            ).run()
        }.result
        _ = try await Command("umount", ["-l", folder]).run(limit: .seconds(10))
        switch result {
        case .success(let proof): Issue.record("\(proof)")
        case .failure(let error): #expect("\(error)".contains("could not be restored"), "\(error)")
        }
        #expect(try await Proof.read(manifest, in: vault.repository) == nil)
    }

    @Test(arguments: [
        ("ERROR:  could not extend file \"base/1/2\": No space left on device", true),
        ("error: connection to server on socket \"/x\" failed: No such file", true),
        ("FATAL:  terminating connection due to administrator command", true),
        ("ERROR:  could not create unique index \"x\"", false),
        ("ERROR:  syntax error\nCommand was: COMMENT ON TABLE t IS 'No space left on device';", false),
    ])
    func `what the server says of itself is no word on a part`(said: String, isOutage: Bool) {
        func error(_ program: String, _ ending: CommandOutcome.Ending?) -> PipelineError {
            PipelineError(program: program, ending: ending, errorOutput: "pg_restore: error: \(said)")
        }
        #expect(error("/usr/bin/pg_restore", .exited(1)).saysNothingOfItsInput == isOutage)
        #expect(!error("zstd", .exited(1)).saysNothingOfItsInput)
        #expect(
            error("zstd", .killed(signal: SIGKILL)).saysNothingOfItsInput && error("age", nil).saysNothingOfItsInput)
    }
}
