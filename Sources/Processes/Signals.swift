import CSystem
import Foundation

/// The signals that a process is sent, one after the other, in place of their default effects.
///
/// A C handler writes each to a pipe (`sigwait` does not see them under an async `main`), and a thread of its own
/// reads the pipe.
public enum Signals {
    /// - Parameter signals: for instance `[SIGTERM, SIGINT, SIGHUP]`.
    public static func stream(_ signals: [Int32]) throws -> AsyncStream<Int32> {
        var ends: [Int32] = [-1, -1]
        guard csystem_pipe(&ends) == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EMFILE) }
        let reading = ends[0]
        guard csystem_forward_signals(ends[1], signals, Int32(signals.count)) == 0 else {
            throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EINVAL)
        }
        return AsyncStream { continuation in
            let thread = Thread {
                var byte: UInt8 = 0
                while true {
                    let count = read(reading, &byte, 1)
                    if count == 1 { continuation.yield(Int32(byte)) } else if errno != EINTR { break }
                }
                continuation.finish()
            }
            thread.name = "signals"
            thread.start()
        }
    }
}
