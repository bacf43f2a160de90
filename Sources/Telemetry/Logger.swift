import Foundation

/// A structured log. All events of one kind have the same message, and their fields distinguish them.
///
/// Copies are cheap and share one sink. Messages and fields must not contain secrets.
public struct Logger: Sendable {
    /// Lines below this level are not written.
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

    /// Returns a logger that adds `value` under `key` to each line, unless the line has another value for that key.
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
        // Each key occurs only once in a line.
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

/// A log line, as it is passed to a sink.
public struct LogLine: Sendable {
    public let time: Date
    public let level: LogLevel
    public let message: String
    public let fields: [LogField]
}

/// A destination of log lines. `write` may be called from any thread.
public protocol LogSink: Sendable {
    func write(_ line: LogLine)
}

private struct SilentSink: LogSink {
    func write(_ line: LogLine) {}
}
