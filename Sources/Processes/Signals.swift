import CSystem
import Foundation
import Telemetry

/// The signals that a process is sent, one after the other, in place of their default effects.
///
/// A C handler writes each to a pipe (`sigwait` does not see them under an async `main`), and a thread of its own reads
/// the pipe: whatever is blocked elsewhere, a signal is heard.
public enum Signals {
    public enum Event: Sendable, Equatable {
        case came(Int32)
        /// The time that was allowed after the signal before has passed.
        case timeIsOver
    }

    /// Listens from now on, for as long as the process lives.
    ///
    /// - Parameters:
    ///   - signals: for instance `[SIGTERM, SIGINT, SIGHUP]`. One that the process was started with as ignored stays so
    ///     (nohup and a shell's background jobs do that), SIGTERM excepted.
    ///   - take: called on the thread; gives back how long it may be until `timeIsOver`, nil for ever.
    /// - Throws: `POSIXError` when no pipe is to be had.
    public static func listen(_ signals: [Int32], _ take: @escaping @Sendable (Event) -> Duration?) throws {
        var ends: [Int32] = [-1, -1]
        guard csystem_pipe(&ends) == 0 else { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EMFILE) }
        let reading = ends[0]
        guard csystem_forward_signals(ends[1], signals, Int32(signals.count)) == 0 else {
            throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EINVAL)
        }
        let thread = Thread {
            var deadline: ContinuousClock.Instant?
            while true {
                let event = next(reading, until: deadline)
                let limit = take(event)
                deadline = limit.map { .now + $0 }
            }
        }
        thread.name = "signals"
        thread.start()
    }

    private static func next(_ descriptor: Int32, until deadline: ContinuousClock.Instant?) -> Event {
        while true {
            var timeout: Int32 = -1
            if let deadline {
                let left = ContinuousClock.now.duration(to: deadline)
                if left <= .zero { return .timeIsOver }
                timeout = Int32(clamping: left.milliseconds + 1)
            }
            var polls = [pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)]
            guard poll(&polls, 1, timeout) > 0 else { continue }
            var byte: UInt8 = 0
            if read(descriptor, &byte, 1) == 1 { return .came(Int32(byte)) }
        }
    }
}
