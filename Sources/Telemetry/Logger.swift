import Foundation

/// A structured log: a message that is the same for every event of its kind, and fields that tell them apart.
///
/// Copies are cheap and share their sink. Nothing secret belongs in a message or a field.
public struct Logger: Sendable {
    /// Lines below this level are not made.
    public var level: LogLevel
    private let sink: any LogSink
    private var fields: [LogField]

    public init(level: LogLevel = .info, sink: any LogSink) {
        self.level = level
        self.sink = sink
        self.fields = []
    }

    /// A logger that writes nothing.
    public static let silent = Logger(level: .error, sink: SilentSink())

    /// The same log, with `value` under `key` on each of its lines that has no other value for it.
    public func tagged(_ key: String, _ value: some CustomStringConvertible) -> Logger {
        var copy = self
        copy.fields.removeAll { $0.key == key }
        copy.fields.append(LogField(key, value))
        return copy
    }

    public func debug(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> [LogField] = []) {
        log(.debug, message, fields)
    }

    public func info(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> [LogField] = []) {
        log(.info, message, fields)
    }

    public func notice(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> [LogField] = []) {
        log(.notice, message, fields)
    }

    public func warning(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> [LogField] = []) {
        log(.warning, message, fields)
    }

    public func error(_ message: @autoclosure () -> String, _ fields: @autoclosure () -> [LogField] = []) {
        log(.error, message, fields)
    }

    private func log(_ level: LogLevel, _ message: () -> String, _ more: () -> [LogField]) {
        guard level >= self.level else { return }
        let own = more()
        // A key stands once in a line.
        let others = fields.filter { field in !own.contains { $0.key == field.key } }
        sink.write(LogLine(time: Date(), level: level, message: message(), fields: others + own))
    }
}

/// One named value of a log line.
public struct LogField: Sendable {
    public let key: String
    public let value: String

    public init(_ key: String, _ value: some CustomStringConvertible) {
        self.key = key
        self.value = value.description
    }

    public init(_ key: String, _ error: any Error) {
        self.key = key
        self.value = String(describing: error)
    }
}

/// What a sink is given to write.
public struct LogLine: Sendable {
    public let time: Date
    public let level: LogLevel
    public let message: String
    public let fields: [LogField]
}

/// Where log lines go. `write` is called from any thread.
public protocol LogSink: Sendable {
    func write(_ line: LogLine)
}

private struct SilentSink: LogSink {
    func write(_ line: LogLine) {}
}
