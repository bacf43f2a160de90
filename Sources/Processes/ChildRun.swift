import CSystem
import Foundation
import Telemetry

/// Runs one child from its start to its end, on the thread that calls `finish`.
final class ChildRun {
    private let command: Command
    private let deadline: ContinuousClock.Instant
    private let limit: Duration
    private let grace: Duration
    private let outputLimit: Int
    private let wake: WakeUp
    private let watch: ChildEnd.Opening

    init(
        _ command: Command, limit: Duration, grace: Duration, outputLimit: Int, wake: WakeUp,
        watch: @escaping ChildEnd.Opening = csystem_pidfd_open
    ) {
        self.command = command
        self.limit = limit
        self.grace = grace
        self.outputLimit = outputLimit
        self.wake = wake
        self.watch = watch
        deadline = .now + limit
    }

    func finish() throws -> CommandOutcome {
        var output = try OwnedPipe()
        var error = try OwnedPipe()
        let pid = try command.spawn(
            output: output.writing.number, error: error.writing.number, newSession: false)
        output.writing.closeNow()
        error.writing.closeNow()
        let ended = ChildEnd(pid, watch)
        var streams = [Stream(output.reading.number), Stream(error.reading.number)]
        let stopped = pump(&streams, ended)
        let status = stopped == .ended ? ChildProcess.reap(pid) : ChildProcess.endGroups([pid], grace: grace, watch)[0]
        let texts = streams.map { programText($0.bytes) }
        switch stopped {
        case .ended: return CommandOutcome(ending: status, output: texts[0], errorOutput: texts[1])
        case .cancelled: throw CancellationError()
        case .late: throw CommandError.tookTooLong(program: command.program, limit: limit, errorOutput: texts[1])
        }
    }

    private enum Stop { case ended, cancelled, late }

    private struct Stream {
        let descriptor: Int32
        var bytes: [UInt8] = []
        var open = true

        init(_ descriptor: Int32) { self.descriptor = descriptor }
    }

    /// Reads both streams until the child has ended. Does not wait for the child's own children, which may keep the
    /// streams open.
    private func pump(_ streams: inout [Stream], _ ended: borrowing ChildEnd) -> Stop {
        while true {
            let left = ContinuousClock.now.duration(to: deadline)
            if left <= .zero { return .late }
            // Check for the end before reading the streams, so that all output of the child is read before the method
            // returns.
            let hasEnded = ended.hasCome
            var polls = [
                pollfd(fd: ended.descriptor, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            for stream in streams {
                polls.append(pollfd(fd: stream.open ? stream.descriptor : -1, events: Int16(POLLIN), revents: 0))
            }
            poll(&polls, nfds_t(polls.count), hasEnded ? 0 : ended.limit(Int32(clamping: left.milliseconds + 1)))
            if polls[1].revents != 0 { return .cancelled }
            var quiet = true
            for index in streams.indices where polls[index + 2].revents != 0 {
                quiet = false
                read(&streams[index])
            }
            if hasEnded, quiet { return .ended }
        }
    }

    private func read(_ stream: inout Stream) {
        let room = max(0, outputLimit - stream.bytes.count)
        var chunk = [UInt8](repeating: 0, count: 16384)
        let count = Foundation.read(stream.descriptor, &chunk, chunk.count)
        if count > 0 {
            stream.bytes.append(contentsOf: chunk[..<min(count, room)])
        } else if count == 0 || errno != EINTR {
            stream.open = false
        }
    }
}
