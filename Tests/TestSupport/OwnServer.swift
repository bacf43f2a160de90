import Foundation
import Postgres

/// A server for one test alone, for tests of a server's settings, and of what all databases of a server share.
public enum OwnServer {
    /// Starts a server, calls `body` with its database `postgres`, and removes the server.
    public static func with(
        settings: [String: String] = [:], _ body: (ConnectionSettings) async throws -> Void
    ) async throws {
        let folder = "/tmp/reeve-own-\(UUID().uuidString.prefix(8))"
        defer { try? FileManager.default.removeItem(atPath: folder) }
        var options = EmbeddedCluster.Options(stateFolder: folder)
        options.settings = settings.merging(["fsync": "off", "shared_buffers": "16MB"]) { given, _ in given }
        options.programFolders = ProcessInfo.processInfo.environment["REEVE_TEST_SERVER"].map { [$0] }
        let cluster = try await EmbeddedCluster.acquire(options)
        do {
            try await body(cluster.settings(database: "postgres"))
        } catch {
            await cluster.destroy()
            throw error
        }
        await cluster.destroy()
    }
}
