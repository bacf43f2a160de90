import Foundation
import Synchronization

/// The service manager that started this process, if it asked to be told of the process's state: systemd with
/// `Type=notify`, or another one with the same protocol (sd_notify(3)).
///
/// A message is one datagram to the socket that `NOTIFY_SOCKET` names. A message that cannot be sent is dropped, and
/// never blocks.
public final class ServiceManager: Sendable {
    public enum Message: Sendable, Equatable {
        /// The service has started.
        case ready
        case stopping
        /// One line for people.
        case status(String)
        /// The service is alive; the next such message comes within `watchdog`.
        case alive
        /// Starting or stopping takes longer than the manager's limit: wait at least this long from now on.
        case extend(Duration)

        var line: String {
            switch self {
            case .ready: "READY=1"
            case .stopping: "STOPPING=1"
            case .status(let text): "STATUS=" + text.split(whereSeparator: \.isNewline).joined(separator: " ")
            case .alive: "WATCHDOG=1"
            case .extend(let time): "EXTEND_TIMEOUT_USEC=\(max(0, Int(time / .microseconds(1))))"
            }
        }
    }

    /// The manager ends this process if no `alive` message comes for this long (sd_watchdog_enabled(3)); nil: never.
    public let watchdog: Duration?
    private let descriptor: Int32
    private let address: [UInt8]

    /// - Returns: nil if the environment names no socket, or an address of another kind.
    public init?(_ environment: [String: String] = ProcessInfo.processInfo.environment) {
        guard let name = environment["NOTIFY_SOCKET"], let address = Self.address(name) else { return nil }
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { return nil }
        self.address = address
        // The variables may have been meant for a parent of this process.
        let isOurs = environment["WATCHDOG_PID"].map { Int32($0) == getpid() } ?? true
        let microseconds = environment["WATCHDOG_USEC"].flatMap { Int64($0) } ?? 0
        watchdog = isOurs && microseconds > 0 ? .microseconds(microseconds) : nil
    }

    deinit { close(descriptor) }

    /// - Returns: whether the message was sent.
    @discardableResult
    public func tell(_ messages: Message...) -> Bool {
        let text = Array(messages.map(\.line).joined(separator: "\n").utf8)
        return address.withUnsafeBytes { raw in
            guard let pointer = raw.bindMemory(to: sockaddr.self).baseAddress else { return false }
            let flags = Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)
            return sendto(descriptor, text, text.count, flags, pointer, socklen_t(raw.count)) == text.count
        }
    }

    /// Returns the bytes of a `sockaddr_un`: a path, or, after `@`, a name in the abstract namespace (unix(7)).
    private static func address(_ name: String) -> [UInt8]? {
        var path = Array(name.utf8)
        guard let first = path.first, first == UInt8(ascii: "/") || first == UInt8(ascii: "@"), path.count > 1 else {
            return nil
        }
        if first == UInt8(ascii: "@") { path[0] = 0 } else { path.append(0) }
        let space = MemoryLayout.size(ofValue: sockaddr_un().sun_path)
        guard path.count <= space else { return nil }
        return withUnsafeBytes(of: sa_family_t(AF_UNIX)) { Array($0) } + path
    }
}
