import CSystem
import Foundation
import Synchronization

/// One run of a pipeline, on the thread that calls `finish`.
final class PipelineRun {
    private let commands: [Command]
    private let lastMayStopEarly: Bool
    private let source: (@Sendable () throws -> [UInt8]?)?
    private let letGo: @Sendable () -> Void
    private let wake: WakeUp
    private let watch: ChildEnd.Opening
    private var children: [pid_t] = []
    private var errors: [Int32] = []
    private var said: [[UInt8]]
    private let feeding: Feeding
    private var isFeeding = false

    /// How long programs may take to end after SIGTERM.
    private static let grace: Duration = .seconds(5)

    /// The error of the thread that feeds the first program, and the flags that stop the thread and report its end.
    private final class Feeding: Sendable {
        let error = Mutex<(any Error)?>(nil)
        let ended = DispatchSemaphore(value: 0)
        let stop: WakeUp

        init() throws { stop = try WakeUp() }
    }

    init(
        _ pipeline: Pipeline, source: (@Sendable () throws -> [UInt8]?)?, letGo: @escaping @Sendable () -> Void,
        wake: WakeUp, watch: @escaping ChildEnd.Opening = csystem_pidfd_open
    ) throws {
        commands = pipeline.commands
        lastMayStopEarly = pipeline.lastMayStopEarly
        self.source = source
        self.letGo = letGo
        self.wake = wake
        self.watch = watch
        feeding = try Feeding()
        said = [[UInt8]](repeating: [], count: commands.count)
    }

    func finish(_ take: (UnsafeRawBufferPointer) throws -> Void) throws {
        defer { for error in errors where error >= 0 { close(error) } }
        var output = OwnedDescriptor(-1)
        var failure: (any Error)?
        do {
            output = OwnedDescriptor(try start())
            try pump(output.number, take)
            output.closeNow()
            try awaitEnds()
        } catch {
            failure = error
        }
        output.closeNow()
        let endings =
            failure == nil
            ? children.map(ChildProcess.reap) : ChildProcess.endGroups(children, grace: Self.grace, watch)
        // Read the error of the source before `stopFeeding`. An error that the source throws because it is stopped is
        // not the cause of the failure.
        let fed = feeding.error.withLock { $0 }
        stopFeeding()
        for index in errors.indices { drain(index) }
        if let failure { throw failure }
        if let fed { throw fed }
        // A program that fails breaks the pipe for the programs before it, which then die of SIGPIPE. The first program
        // that failed in another way is therefore the cause, and its error output is reported.
        let failed = endings.indices.filter { endings[$0] != .exited(0) }
        let broken = failed.first { endings[$0] != .killed(signal: SIGPIPE) }
        if broken == nil, lastMayStopEarly, endings.last == .exited(0) { return }
        guard let culprit = broken ?? failed.first else { return }
        throw PipelineError(
            program: commands[culprit].program, ending: endings[culprit], errorOutput: programMessage(said[culprit]))
    }

    /// Starts the programs.
    ///
    /// - Returns: a descriptor from which the last program's output is read.
    private func start() throws -> Int32 {
        var input = OwnedDescriptor(-1)
        if source != nil {
            var pipe = try OwnedPipe()
            input = OwnedDescriptor(pipe.reading.release())
            feed(pipe.writing.release())
            isFeeding = true
        }
        for command in commands {
            var output = try OwnedPipe()
            var error = try OwnedPipe()
            do {
                children.append(
                    try command.spawn(
                        input: input.number, output: output.writing.number, error: error.writing.number,
                        newSession: false))
            } catch {
                throw PipelineError(program: command.program, ending: nil, errorOutput: "\(error)")
            }
            errors.append(error.reading.release())
            input = OwnedDescriptor(output.reading.release())
        }
        return input.release()
    }

    // MARK: Input

    private func feed(_ descriptor: Int32) {
        let (source, feeding) = (source, feeding)
        // Writes do not block, so that `stopFeeding` can end the thread even if nothing reads from the pipe.
        let flags = fcntl(descriptor, F_GETFL)
        _ = fcntl(descriptor, F_SETFL, flags | O_NONBLOCK)
        let thread = Thread {
            // Writing to a program that has stopped reading must not end this process, no matter how other code treats
            // SIGPIPE.
            var signals = sigset_t()
            sigemptyset(&signals)
            sigaddset(&signals, SIGPIPE)
            pthread_sigmask(SIG_BLOCK, &signals, nil)
            defer {
                close(descriptor)
                feeding.ended.signal()
            }
            do {
                while let bytes = try source?() {
                    guard Self.write(bytes, to: descriptor, feeding.stop) else { return }
                }
            } catch {
                feeding.error.withLock { $0 = error }
            }
        }
        thread.name = "pipeline input"
        thread.start()
    }

    /// Writes bytes to the first program.
    ///
    /// - Returns: false if the program no longer reads, or if `stop` is raised. This is not an error: the exit status
    ///   of the program shows whether it succeeded.
    private static func write(_ bytes: [UInt8], to descriptor: Int32, _ stop: WakeUp) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno == EAGAIN {
                var polls = [
                    pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0),
                    pollfd(fd: stop.descriptor, events: Int16(POLLIN), revents: 0),
                ]
                poll(&polls, 2, -1)
                if polls[1].revents != 0 { return false }
            } else if errno != EINTR {
                return false
            }
        }
        return true
    }

    /// Stops the feeding thread after the programs have ended, and waits for the thread.
    private func stopFeeding() {
        guard source != nil else { return }
        feeding.stop.raise()
        letGo()
        if isFeeding { feeding.ended.wait() }
    }

    // MARK: Output

    private func pump(_ output: Int32, _ take: (UnsafeRawBufferPointer) throws -> Void) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65536, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            guard try wait(for: [output])[0] else { continue }
            let count = read(output, buffer.baseAddress, buffer.count)
            if count > 0 { try take(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
            if count == 0 { return }
            if count < 0, errno != EINTR { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        }
    }

    /// Waits until every program has ended. A program may end long after it has closed its output.
    private func awaitEnds() throws {
        for pid in children {
            let ended = ChildEnd(pid, watch)
            while !ended.hasCome { _ = try wait(for: [ended.descriptor], limit: ended.limit(-1)) }
        }
    }

    /// Waits until a descriptor is readable. In the meantime, reads the standard errors of the programs.
    ///
    /// - Parameter limit: in milliseconds; negative: no limit.
    /// - Returns: for each descriptor, whether it is readable.
    /// - Throws: `CancellationError`.
    private func wait(for descriptors: [Int32], limit: Int32 = -1) throws -> [Bool] {
        var polls = ([wake.descriptor] + descriptors + errors).map {
            pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
        }
        poll(&polls, nfds_t(polls.count), limit)
        if polls[0].revents != 0 { throw CancellationError() }
        let behind = 1 + descriptors.count
        for index in errors.indices where polls[behind + index].revents != 0 { take(index) }
        return polls[1..<behind].map { $0.revents != 0 }
    }

    /// Reads the available error output of a program. Does not wait for output of the program's own children.
    private func drain(_ index: Int) {
        while errors[index] >= 0 {
            var polls = [pollfd(fd: errors[index], events: Int16(POLLIN), revents: 0)]
            guard poll(&polls, 1, 0) > 0 else { return }
            take(index)
        }
    }

    /// Reads from the standard error of a program. Only the first 64 KB are kept.
    private func take(_ index: Int) {
        guard errors[index] >= 0 else { return }
        var chunk = [UInt8](repeating: 0, count: 4096)
        let count = read(errors[index], &chunk, chunk.count)
        if count > 0 {
            said[index] += chunk[..<min(count, max(0, 65536 - said[index].count))]
        } else if count == 0 || errno != EINTR {
            close(errors[index])
            errors[index] = -1
        }
    }
}
