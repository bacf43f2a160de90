import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups

/// Restore tests of a database whose code does not return, and catches the request to cancel it.
@Suite(.heavy, .database, .timeLimit(.minutes(4)))
struct RestoreLimitTests {
    private func backup(_ vault: Vault) async throws -> Manifest {
        let database = try TestDatabase.current
        try await database.execute(
            """
            CREATE SCHEMA s;
            CREATE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN i; END';
            CREATE TABLE s.t (a int);
            INSERT INTO s.t VALUES (1);
            CREATE INDEX ON s.t (s.f(a));
            CREATE OR REPLACE FUNCTION s.f(i int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN
                LOOP
                    BEGIN PERFORM pg_catalog.pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END;
                END LOOP;
            END $$
            """)
        return try await vault.maker(database.settings).make().manifest
    }

    private func test(_ vault: Vault, _ manifest: Manifest) throws -> RestoreTest {
        try RestoreTest(
            repository: vault.repository, manifest: manifest, settings: vault.restoring,
            folder: "\(vault.folder)/scratch")
    }

    @Test func `a restore test ends at its limit, and names the statement that runs`() async throws {
        let vault = try await Vault()
        let manifest = try await backup(vault)
        var test = try test(vault, manifest)
        test.limit = .seconds(15)
        let limited = test
        let error = await #expect(throws: BackupError.self) { _ = try await limited.run() }
        guard case .testTimedOut(_, let statement?) = error else {
            Issue.record("\(error.map { "\($0)" } ?? "no error")")
            return
        }
        #expect(statement.contains("CREATE INDEX"), "\(statement)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(vault.folder)/scratch").isEmpty)
    }

    @Test func `a restore test that is cancelled leaves no server`() async throws {
        let vault = try await Vault()
        let test = try test(vault, try await backup(vault))
        let running = Task { try await test.run() }
        try await waitUntil("the index is being made") { isMakingIndex(below: vault.folder) }
        running.cancel()
        await #expect(throws: (any Error).self) { _ = try await running.value }
        #expect(try FileManager.default.contentsOfDirectory(atPath: "\(vault.folder)/scratch").isEmpty)
    }

    /// Whether a server whose data is in the folder makes an index. The title of its process says so.
    private func isMakingIndex(below folder: String) -> Bool {
        let files = FileManager.default
        return ((try? files.contentsOfDirectory(atPath: "/proc")) ?? []).contains { process in
            guard let title = files.contents(atPath: "/proc/\(process)/cmdline"),
                String(decoding: title, as: UTF8.self).contains("CREATE INDEX")
            else { return false }
            return (try? files.destinationOfSymbolicLink(atPath: "/proc/\(process)/cwd"))?.hasPrefix(folder) ?? false
        }
    }
}
