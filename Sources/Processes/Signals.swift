import CSystem
import Foundation
import Telemetry

/// Passes the signals that this process receives to a function, one after the other. The signals lose their default
/// effects.
///
/// A C handler writes each signal to a pipe, and a separate thread reads the pipe. A signal is therefore received even
/// if all other threads are blocked. (`sigwait` does not receive signals under an async `main`.)
public enum Signals {
    public enum Event: Sendable, Equatable {
        case came(Int32)
        /// The time that `take` returned for the previous event is over, and no signal has arrived.
        case timeIsOver
    }

    /// Listens from now on, until the process ends.
    ///
    /// - Parameters:
    ///   - signals: for instance `[SIGTERM, SIGINT, SIGHUP]`. A signal that was ignored when the process was started
    ///     remains ignored, except for SIGTERM. (nohup and a shell's background jobs ignore signals in this way.)
    ///   - take: called with each event, on the separate thread. Returns how long to wait for the next signal before
    ///     the event `timeIsOver`; nil: no limit.
    /// - Throws: `POSIXError` if no pipe is available, or if a signal cannot be handled.
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
