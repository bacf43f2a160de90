import CSystem
import Foundation
import Synchronization

/// Programs whose output flows into each other, the last one's into this process.
///
///     let dump = Pipeline([pgDump, zstd, age])
///     try await dump.run { bytes in try file.write(bytes) }
///
/// The whole has succeeded only when every program has: a pipe hides how the first ones ended. Bytes flow as they come,
/// with the pipes' own back-pressure; nothing is gathered.
public struct Pipeline: Sendable {
    public let commands: [Command]

    /// - Parameter commands: at least one.
    public init(_ commands: [Command]) { self.commands = commands }

    /// Runs the programs to their ends.
    ///
    /// - Parameters:
    ///   - source: gives the first program's input, a piece at a time, nil at the end; it is called on a thread of its
    ///     own. Without one the input is empty.
    ///   - take: gets the last program's output, on another thread.
    /// - Throws: `PipelineError` when a program cannot be started or does not end with 0; what `source` or `take` throw;
    ///   `CancellationError`. No program outlives the call.
    public func run(
        source: (@Sendable () throws -> [UInt8]?)? = nil,
        take: @escaping @Sendable (UnsafeRawBufferPointer) throws -> Void
    ) async throws {
        let wake = try WakeUp()
        try await withTaskCancellationHandler {
            try await onOwnThread(named: "pipeline") {
                try PipelineRun(commands: commands, source: source, wake: wake).finish(take)
            }
        } onCancel: {
            wake.raise()
        }
    }
}

extension Pipeline {
    /// Runs the programs to their ends and gathers what the last one writes.
    ///
    /// - Throws: as `run`.
    public func output() async throws -> [UInt8] {
        let gathered = Gathered()
        try await run { gathered.bytes += $0 }
        return gathered.bytes
    }

    /// Filled by the pipeline's thread, and read when that has ended.
    private final class Gathered: @unchecked Sendable {
        var bytes: [UInt8] = []
    }
}

/// Which program of a pipeline failed, and what it said.
public struct PipelineError: Error, CustomStringConvertible {
    public let program: String
    public let ending: CommandOutcome.Ending?
    public let errorOutput: String

    public var description: String {
        let name = (program as NSString).lastPathComponent
        let said = errorOutput.trimmingCharacters(in: .whitespacesAndNewlines)
        switch ending {
        case .exited(let status): return "\(name) ended with status \(status)" + (said.isEmpty ? "" : ": \(said)")
        case .killed(let signal): return "\(name) was killed by signal \(signal)" + (said.isEmpty ? "" : ": \(said)")
        case nil: return "\(name) cannot be started: \(said)"
        }
    }
}

/// One run of a pipeline, on the thread that calls `finish`.
private final class PipelineRun {
    private let commands: [Command]
    private let source: (@Sendable () throws -> [UInt8]?)?
    private let wake: WakeUp
    private var children: [(pid: pid_t, program: String)] = []
    private var errors: [Int32] = []
    private var said: [[UInt8]]
    /// What the feeding thread met.
    private let feeding = Feeding()

    private final class Feeding: Sendable {
        let error = Mutex<(any Error)?>(nil)
        let ended = DispatchSemaphore(value: 0)
    }

    init(commands: [Command], source: (@Sendable () throws -> [UInt8]?)?, wake: WakeUp) {
        self.commands = commands
        self.source = source
        self.wake = wake
        said = [[UInt8]](repeating: [], count: commands.count)
    }

    func finish(_ take: (UnsafeRawBufferPointer) throws -> Void) throws {
        var output: Int32 = -1
        defer {
            if output >= 0 { close(output) }
            for error in errors where error >= 0 { close(error) }
        }
        do {
            output = try start()
        } catch {
            stop()
            throw error
        }
        var failure: (any Error)?
        do {
            try pump(output, take)
        } catch {
            failure = error
        }
        close(output)
        output = -1
        let isBroken = failure != nil
        if isBroken { for child in children { kill(-child.pid, SIGTERM) } }
        let endings = children.map {
            isBroken ? ChildProcess.endGroup($0.pid, grace: .seconds(5)) : ChildProcess.reap($0.pid)
        }
        // With the first program gone, whoever feeds it is let go.
        if source != nil { feeding.ended.wait() }
        for index in errors.indices { drain(index) }
        children = []
        if let failure { throw failure }
        if let error = feeding.error.withLock({ $0 }) { throw error }
        // The first to fail breaks the pipe for those before it; what it said is what matters.
        let failed = endings.indices.filter { endings[$0] != .exited(0) }
        guard let culprit = failed.first(where: { endings[$0] != .killed(signal: SIGPIPE) }) ?? failed.first else {
            return
        }
        throw PipelineError(
            program: commands[culprit].program, ending: endings[culprit],
            errorOutput: String(decoding: said[culprit], as: UTF8.self))
    }

    /// - Returns: where the last program's output is read.
    private func start() throws -> Int32 {
        var input: Int32 = -1
        if source != nil {
            var pipe = try OwnedPipe()
            input = pipe.reading.release()
            feed(pipe.writing.release())
        }
        for command in commands {
            var output = try OwnedPipe()
            var error = try OwnedPipe()
            let pid: pid_t
            do {
                pid = try command.spawn(
                    input: input, output: output.writing.number, error: error.writing.number, newSession: false)
            } catch {
                if input >= 0 { close(input) }
                throw PipelineError(program: command.program, ending: nil, errorOutput: "\(error)")
            }
            if input >= 0 { close(input) }
            output.writing.closeNow()
            error.writing.closeNow()
            children.append((pid, command.program))
            errors.append(error.reading.release())
            input = output.reading.release()
        }
        return input
    }

    private func feed(_ descriptor: Int32) {
        let (source, feeding) = (source, feeding)
        let thread = Thread {
            defer {
                close(descriptor)
                feeding.ended.signal()
            }
            do {
                while let bytes = try source?() {
                    var rest = bytes[...]
                    while !rest.isEmpty {
                        let count = rest.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                        if count > 0 {
                            rest = rest.dropFirst(count)
                        } else if errno != EINTR {
                            return  // the program has ended; how, its status tells
                        }
                    }
                }
            } catch {
                feeding.error.withLock { $0 = error }
            }
        }
        thread.name = "pipeline input"
        thread.start()
    }

    private func pump(_ output: Int32, _ take: (UnsafeRawBufferPointer) throws -> Void) throws {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 65536, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            var polls = [
                pollfd(fd: output, events: Int16(POLLIN), revents: 0),
                pollfd(fd: wake.descriptor, events: Int16(POLLIN), revents: 0),
            ]
            polls += errors.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
            poll(&polls, nfds_t(polls.count), -1)
            if polls[1].revents != 0 { throw CancellationError() }
            for index in errors.indices where polls[index + 2].revents != 0 { drain(index, once: true) }
            guard polls[0].revents != 0 else { continue }
            let count = read(output, buffer.baseAddress, buffer.count)
            if count > 0 { try take(UnsafeRawBufferPointer(rebasing: buffer[..<count])) }
            if count == 0 { return }
            if count < 0, errno != EINTR { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EIO) }
        }
    }

    /// Reads what a program says on its standard error; the first 64 KB are kept.
    private func drain(_ index: Int, once: Bool = false) {
        guard errors[index] >= 0 else { return }
        var chunk = [UInt8](repeating: 0, count: 4096)
        repeat {
            let count = read(errors[index], &chunk, chunk.count)
            if count > 0 {
                said[index] += chunk[..<min(count, max(0, 65536 - said[index].count))]
            } else if count == 0 || errno != EINTR {
                close(errors[index])
                errors[index] = -1
                return
            }
        } while !once
    }

    private func stop() {
        for child in children { kill(-child.pid, SIGKILL) }
        for child in children { _ = ChildProcess.reap(child.pid) }
        children = []
    }
}
