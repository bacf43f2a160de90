import Foundation
import Synchronization

/// Writes log lines to a file descriptor, one at a time: as text for people, or as JSON for machines.
public final class StreamSink: LogSink {
    public enum Format: String, Sendable, CaseIterable {
        case text, json
    }

    private let descriptor: Int32
    private let format: Format
    private let colour: Bool
    private let turn = Mutex(())

    /// - Parameter descriptor: must be open for writing while the sink exists. The sink does not close it.
    public init(descriptor: Int32, format: Format, colour: Bool = false) {
        self.descriptor = descriptor
        self.format = format
        self.colour = colour
    }

    public func write(_ line: LogLine) {
        let text = format == .json ? Self.json(line) : Self.text(line, colour: colour)
        let bytes = Array((text + "\n").utf8)
        turn.withLock { _ in
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = rest.withUnsafeBytes { Foundation.write(descriptor, $0.baseAddress, $0.count) }
                if count > 0 {
                    rest = rest.dropFirst(count)
                } else if errno == EAGAIN {
                    // Another process that shares the stream may have made it non-blocking. Waiting avoids half-written
                    // lines.
                    var polls = [pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)]
                    poll(&polls, 1, -1)
                } else if errno != EINTR {
                    return  // an error of the log itself cannot be logged
                }
            }
        }
    }

    static func text(_ line: LogLine, colour: Bool) -> String {
        let time = line.time.formatted(
            .iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
        let level = line.level.rawValue.padding(toLength: 7, withPad: " ", startingAt: 0)
        var text = "\(time) \(colour ? tint(line.level, level) : level) \(oneLine(line.message))"
        for field in line.fields { text += " \(field.key)=\(quotedIfNeeded(field.value))" }
        return text
    }

    static func json(_ line: LogLine) -> String {
        let time = line.time.formatted(
            .iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted))
        var text = "{\"time\":\"\(time)\",\"level\":\"\(line.level.rawValue)\",\"message\":"
        text += jsonString(line.message)
        for field in line.fields { text += ",\(jsonString(field.key)):\(jsonString(field.value))" }
        return text + "}"
    }

    private static func tint(_ level: LogLevel, _ text: String) -> String {
        switch level {
        case .debug: "\u{1B}[2m\(text)\u{1B}[0m"
        case .info: text
        case .notice: "\u{1B}[36m\(text)\u{1B}[0m"
        case .warning: "\u{1B}[33m\(text)\u{1B}[0m"
        case .error: "\u{1B}[31m\(text)\u{1B}[0m"
        }
    }

    /// Joins the lines of a message, because a line break in a message could be used to forge the next log line.
    private static func oneLine(_ text: String) -> String {
        text.contains(where: \.isNewline)
            ? text.split(whereSeparator: \.isNewline).joined(separator: " ⏎ ") : text
    }

    private static func quotedIfNeeded(_ value: String) -> String {
        let plain = !value.isEmpty && !value.contains { $0 == " " || $0 == "\"" || $0 == "=" || $0.isNewline }
        return plain ? value : jsonString(value)
    }
}
