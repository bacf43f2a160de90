import Foundation
import Processes
import TestSupport
import Testing

/// `scripts/run`, with a program that is built already.
@Suite(.database, .heavy, .timeLimit(.minutes(3)))
struct RunScriptTests {
    /// A copy of what the script needs.
    private func checkout() throws -> String {
        let folder = "/tmp/reeve-checkout-\(UUID().uuidString.prefix(8).lowercased())"
        let manager = FileManager.default
        try manager.createDirectory(atPath: "\(folder)/.build/release", withIntermediateDirectories: true)
        chmod(folder, 0o755)
        for name in ["scripts", "sample", "migrations", "Package.swift", "Sources"] {
            try manager.createSymbolicLink(
                atPath: "\(folder)/\(name)", withDestinationPath: "\(ShippedFixture.repository)/\(name)")
        }
        try manager.removeItem(atPath: "\(folder)/scripts")
        try manager.copyItem(atPath: "\(ShippedFixture.repository)/scripts", toPath: "\(folder)/scripts")
        try manager.createSymbolicLink(atPath: "\(folder)/.build/release/reeve", withDestinationPath: ReeveBinary.path)
        #expect(manager.createFile(atPath: "\(folder)/.build/run-stamp", contents: nil))
        return folder
    }

    @Test func `a port that is taken is told before anything starts, and nothing is built`() async throws {
        let folder = try checkout()
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let settings = try TestDatabase.current.settings
        let port = try FreePort.next()
        // Another service, which answers on the address and is ready.
        let other = try RunningReeve(
            ["serve"],
            environment: ReeveBinary.environment(settings, ["REEVE_HTTP_LISTEN": "127.0.0.1:\(port)"]))
        let address = "http://127.0.0.1:\(port)/readyz"
        try await waitUntil("the other one is ready") {
            try await Command("curl", ["-fsS", "-o", "/dev/null", address]).run().succeeded
        }
        let outcome = try await Command(
            "\(folder)/scripts/run",
            environment: ReeveBinary.environment(
                nil, ["REEVE_STATE": "\(folder)/state", "REEVE_HTTP_LISTEN": "127.0.0.1:\(port)"])
        ).run(limit: .seconds(120))
        #expect(outcome.ending == .exited(1))
        #expect(outcome.errorOutput.contains("cannot listen on 127.0.0.1:\(port): address already in use"))
        #expect(!outcome.errorOutput.contains("sample"), "\(outcome.errorOutput)")
        #expect(!outcome.errorOutput.contains("reeve runs") && !outcome.errorOutput.contains("building"))
        #expect(!FileManager.default.fileExists(atPath: "\(folder)/state"))
        other.signal(SIGTERM)
        #expect(try await other.end() == 0)
    }
}
