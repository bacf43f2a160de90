import Foundation
import Postgres
import TestSupport
import Testing

@testable import Backups

/// The role that the owner of a database sets for all who come is not that of the programs that dump and restore.
@Suite(.heavy, .timeLimit(.minutes(4)))
struct DatabaseRoleTests {
    @Test(.database) func programsKeepTheirRole() async throws {
        let database = try TestDatabase.current
        let role = "plain_\(UUID().uuidString.prefix(8).lowercased())"
        let target = "\(database.name)_restored"
        try await database.execute(
            "CREATE ROLE \(role)", "CREATE TABLE public.t (a int)", "INSERT INTO public.t VALUES (1)",
            "ALTER DATABASE \(database.name) SET role = '\(role)'")
        let vault = try await Vault()
        let manifest = try await vault.maker(database.settings).make().manifest
        try await TestCluster.runSQL("CREATE DATABASE \(target) TEMPLATE template0")
        try await TestCluster.runSQL("ALTER DATABASE \(target) SET role = '\(role)'")
        let restorer = Restorer(repository: vault.repository, manifest: manifest, settings: vault.restoring)
        try await restorer.restore(into: database.settings.database(target))
        let count = try await Connection.opened(database.settings.database(target)) { connection in
            try await connection.with { try $0.query("SELECT count(*) FROM public.t").first?.get(0, as: Int.self) }
        }
        #expect(count == 1)
        try await TestCluster.runSQL("DROP DATABASE \(target)")
        try await database.execute("ALTER DATABASE \(database.name) RESET role", "DROP ROLE \(role)")
    }
}
