import Foundation
import Postgres
import Processes

/// Errors that tell of the server, or of the machine, and not of what was asked of it.
extension PostgresError {
    /// SQLSTATE's classes for a lack of resources, for what an operator does, and for what is outside of PostgreSQL.
    var isOutage: Bool { ["53", "57", "58"].contains { sqlState?.hasPrefix($0) == true } }
}

extension PipelineError {
    /// Whether the program was ended, could not be started, lost its server, or was told by it of an outage; also whatever
    /// it was that it read.
    ///
    /// PostgreSQL's programs pass on the server's message without its SQLSTATE. A function of the database's may raise an
    /// error that reads like one of these: then a test says that it could not be carried out, which is no proof either.
    var saysNothingOfItsInput: Bool {
        guard case .exited = ending else { return true }
        guard program.hasSuffix("/pg_restore") || program.hasSuffix("/psql") else { return false }
        return errorOutput.utf8.split(separator: UInt8(ascii: "\n")).contains { line in
            let text = String(Substring(line))
            if Self.losses.contains(where: text.contains) { return true }
            // Of the server's messages; not of the statements that are quoted after them.
            guard let start = ["ERROR:  ", "FATAL:  ", "PANIC:  "].compactMap({ text.range(of: $0)?.upperBound }).min()
            else { return false }
            return Self.outages.contains { text[start...].contains($0) }
        }
    }

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
    /// What a program says of a part that it was given, or of something else.
    init(for error: PipelineError, _ part: Manifest.Part) {
        if error.saysNothingOfItsInput {
            self = .notRestored(object: part.object, reason: error.description)
        } else if error.program == "age" {
            self = .cannotOpen(object: part.object, reason: error.description)
        } else {
            self = .part(object: part.object, reason: error.description)
        }
    }
}
