import CLibpq
import Foundation
import Processes
import Synchronization
import Telemetry

/// The hosts that a connection tries, in order. They are read from the parameters, the environment or a service file.
///
/// libpq resolves a name in a blocking call, even while it is polled, and waits as long as a silent resolver takes.
/// Therefore this program resolves the names, each with a time limit. libpq receives the addresses in addition to the
/// names, because it checks the certificate against the name, and searches `.pgpass` for the name.
struct HostList {
    struct Entry: Equatable {
        var host: String
        var address: String
        var port: String

        /// Whether the host has to be resolved: it is not an address, a folder or an abstract socket.
        var isName: Bool {
            guard address.isEmpty, !host.isEmpty, !host.hasPrefix("/"), !host.hasPrefix("@") else { return false }
            return NumericAddress(host) == nil
        }
    }

    private(set) var entries: [Entry]

    /// - Returns: nil if libpq refuses the parameters. libpq reports the reason when it is called to connect.
    init?(_ parameters: [String: String], logger: Logger) throws {
        // libpq fills in the other parameters. `sslmode` is set to an invalid value, which libpq checks after the
        // hosts, so that libpq stops before it connects.
        let filled = try LibpqHandle(parameters: parameters.merging(["sslmode": "unknown"]) { $1 }, logger: logger)
        guard let options = PQconninfo(filled.raw) else { return nil }
        defer { PQconninfoFree(options) }
        var values: [String: String] = [:]
        var option = options
        while let keyword = option.pointee.keyword {
            if let value = option.pointee.val { values[String(cString: keyword)] = String(cString: value) }
            option += 1
        }
        self.init(host: values["host"] ?? "", address: values["hostaddr"] ?? "", port: values["port"] ?? "")
    }

    init?(host: String, address: String, port: String) {
        let hosts = Self.items(host)
        let addresses = Self.items(address)
        let ports = Self.items(port)
        let count = max(hosts.count, addresses.count, 1)
        guard [0, count].contains(hosts.count), [0, count].contains(addresses.count),
            [0, 1, count].contains(ports.count)
        else { return nil }
        entries = (0..<count).map { number in
            Entry(
                host: hosts.isEmpty ? "" : hosts[number], address: addresses.isEmpty ? "" : addresses[number],
                port: ports.isEmpty ? "" : ports.count == 1 ? ports[0] : ports[number])
        }
    }

    private static func items(_ text: String) -> [String] {
        text.isEmpty ? [] : text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
    }

    /// The names that have to be resolved, each once.
    var names: [String] { Set(entries.filter(\.isName).map(\.host)).sorted() }

    /// Replaces each entry of a name by one entry for each of its addresses. If there are no addresses, the entries of
    /// the name are removed.
    mutating func set(_ addresses: [String], of name: String) {
        entries = entries.flatMap { entry -> [Entry] in
            guard entry.isName, entry.host == name else { return [entry] }
            return addresses.map { Entry(host: name, address: $0, port: entry.port) }
        }
    }

    /// The entries as parameters of libpq.
    var parameters: [String: String] {
        [
            "host": entries.map(\.host).joined(separator: ","),
            "hostaddr": entries.map(\.address).joined(separator: ","),
            "port": entries.map(\.port).joined(separator: ","),
        ]
    }
}

/// An IP address in numeric form.
private struct NumericAddress {
    init?(_ text: String) {
        var hints = addrinfo()
        hints.ai_flags = AI_NUMERICHOST
        var found: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(text, nil, &hints, &found) == 0 else { return nil }
        freeaddrinfo(found)
    }
}

/// The lookup of one name, on a separate thread. If the lookup takes too long, its thread is abandoned. Concurrent
/// lookups of the same name share one answer.
final class HostResolution: Sendable {
    enum Answer: Equatable {
        case addresses([String])
        case failed(reason: String)
    }

    /// Raised when the answer is available.
    let done: WakeUp
    private let state = Mutex<Answer?>(nil)

    var answer: Answer? { state.withLock { $0 } }

    private static let underWay = Mutex<[String: HostResolution]>([:])

    /// - Throws: `POSIXError` if no descriptor is available.
    static func of(_ name: String) throws -> HostResolution {
        try underWay.withLock { underWay in
            if let found = underWay[name] { return found }
            let made = HostResolution(done: try WakeUp())
            underWay[name] = made
            let thread = Thread { made.resolve(name) }
            thread.name = "resolver"
            thread.start()
            return made
        }
    }

    private init(done: WakeUp) { self.done = done }

    private func resolve(_ name: String) {
        let answer = Self.addresses(of: name)
        state.withLock { $0 = answer }
        Self.underWay.withLock { _ = $0.removeValue(forKey: name) }
        done.raise()
    }

    private static func addresses(of name: String) -> Answer {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(name, nil, &hints, &found)
        guard code == 0, let found else { return .failed(reason: String(cString: gai_strerror(code))) }
        defer { freeaddrinfo(found) }
        var addresses: [String] = []
        for one in sequence(first: found, next: { $0.pointee.ai_next }) {
            var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
            guard
                getnameinfo(
                    one.pointee.ai_addr, one.pointee.ai_addrlen, &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST)
                    == 0
            else { continue }
            addresses.append(String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self))
        }
        return .addresses(addresses)
    }
}
