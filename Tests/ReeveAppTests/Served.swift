import Foundation
import Postgres
import TestSupport

/// A service that listens on a Unix socket of its own.
final class Served: Sendable {
    let reeve: RunningReeve
    let socket: String

    init(_ settings: ConnectionSettings?, _ environment: [String: String] = [:]) throws {
        socket = "/tmp/reeve-serve-\(UUID().uuidString.prefix(8))"
        reeve = try RunningReeve(
            ["serve"],
            environment: ReeveBinary.environment(settings, ["REEVE_HTTP_LISTEN": "unix:\(socket)"]).merging(
                environment
            ) { $1 })
    }

    /// The status and body of a path; nil when nobody answers.
    func get(_ path: String) -> (status: Int, body: String)? {
        guard let text = UnixHTTP.get(path, from: socket) else { return nil }
        let parts = text.split(separator: "\r\n\r\n", maxSplits: 1, omittingEmptySubsequences: false)
        let words = parts.first?.split(separator: " ") ?? []
        guard parts.count == 2, words.count > 1, let status = Int(words[1]) else { return nil }
        return (status, String(parts[1]))
    }
}
