import Foundation
import Postgres
import Processes

/// Errors that are caused by the server or by the machine, and not by the request.
extension PostgresError {
    /// Whether the SQLSTATE class is that of insufficient resources (53), operator intervention (57) or a system error
    /// (58).
    var isOutage: Bool { ["53", "57", "58"].contains { sqlState?.hasPrefix($0) == true } }
}

extension PipelineError {
    /// Whether the error proves nothing about the program's input: the program was killed, could not be started, lost
    /// its server, or got an outage error from it.
    ///
    /// PostgreSQL's programs print the server's message without its SQLSTATE, so an outage error is recognized by its
    /// text. A function of the database may raise an error with the same text. A restore test then reports that the
    /// test could not be carried out. So such a function cannot make a damaged backup count as proven.
    var saysNothingOfItsInput: Bool {
        guard case .exited = ending else { return true }
        guard program.hasSuffix("/pg_restore") || program.hasSuffix("/psql") else { return false }
        return errorOutput.utf8.split(separator: UInt8(ascii: "\n")).contains { line in
            let text = String(Substring(line))
            if Self.losses.contains(where: text.contains) { return true }
            // Search the lines with the message of the server, but not the lines that quote a statement.
            guard let start = ["ERROR:  ", "FATAL:  ", "PANIC:  "].compactMap({ text.range(of: $0)?.upperBound }).min()
            else { return false }
            return Self.outages.contains { text[start...].contains($0) }
        }
    }

    /// Whether age has opened the file with the identity, and then found that its content is damaged.
    fileprivate var saysDamaged: Bool { errorOutput.contains("authenticate payload chunk") }

    private static let losses = [
        "server closed the connection unexpectedly", "connection to server ", "no connection to the server",
        "could not receive data from server", "could not send data to server", "SSL connection has been closed",
    ]

    private static let outages = [
        "No space left on device", "Disk quota exceeded", "Input/output error", "out of memory",
        "out of shared memory", "could not extend file", "could not write ", "could not read ", "could not fsync ",
        "could not open file ", "could not access file ", "too many clients already", "remaining connection slots",
        "terminating connection", "canceling statement", "the database system is ",
    ]
}

extension BackupError {
    /// Classifies the error of a program that has read a part: an outage, a failed decryption, or a damaged part.
    init(for error: PipelineError, _ part: Manifest.Part) {
        if error.saysNothingOfItsInput {
            self = .notRestored(object: part.object, reason: error.description)
        } else if error.program == "age", !error.saysDamaged {
            self = .cannotOpen(object: part.object, reason: error.description)
        } else {
            self = .part(object: part.object, reason: error.description)
        }
    }
}
