import AdminHTTP
import Foundation
import Kernel
import Processes
import Telemetry

extension Feature {
    /// The service: the schedule and the HTTP server.
    static let service = Feature(
        "service", commands: [ServeCommand.spec], settings: HTTPSettings.keys, metrics: ServiceMetrics.families,
        errors: [ServerError.self], mistakes: HTTPSettings.mistakes)
}

/// The settings of the HTTP server: its address, and the clients and host names that it accepts.
enum HTTPSettings {
    static let listen = Setting(
        "http.listen", .listen, default: "127.0.0.1:7433",
        "Where /metrics, /livez and /readyz are served: host:port, [host]:port, unix:/path, or off. Addresses other "
            + "than loopback addresses and Unix sockets require http.remote.")
    static let remote = Setting(
        "http.remote", .boolean, default: "no",
        "Whether http.listen may be an address that other machines can reach. Requests are not authenticated, and only "
            + "/metrics, /livez and /readyz are served.")
    static let hosts = Setting<[String]>(
        list: "http.hosts", .text,
        "Host names that requests may use, in addition to localhost, IP addresses and the host of http.listen. "
            + "Requests with other names are refused, so that a page in a browser cannot reach the server under the "
            + "page's own host name (DNS rebinding).")

    static let keys = [listen.key, remote.key, hosts.key]

    static func mistakes(_ configuration: Configuration) -> [ConfigurationError] {
        guard let address = configuration[listen].address, address.isRemoteLiteral, !configuration[remote] else {
            return []
        }
        return [
            ConfigurationError(
                "\(configuration.origin(listen))", nil,
                "'http.listen': other machines can reach \(address), and requests are not authenticated",
                hint: "listen on 127.0.0.1 or a socket (unix:/path), or set http.remote: true")
        ]
    }

    /// The address to listen on; nil if the server is off.
    struct Listening: Sendable { let address: ListenAddress? }
}

extension ValueSyntax where Value == HTTPSettings.Listening {
    static var listen: Self {
        Self { (text) throws(InvalidValue) in
            if text == "off" { return HTTPSettings.Listening(address: nil) }
            guard let address = ListenAddress(text) else {
                throw InvalidValue(
                    "'\(text)' is not an address", hint: "write 127.0.0.1:7433, [::1]:7433, unix:/path or off")
            }
            return HTTPSettings.Listening(address: address)
        }
    }
}

/// The command `reeve serve`.
enum ServeCommand {
    static let spec = CommandSpec(
        noun: "serve", verb: nil, summary: "run the schedule, and serve metrics, until stopped",
        discussion:
            "Works on every configured database. If none is configured, starts an embedded PostgreSQL in the state "
            + "folder. After SIGTERM, SIGINT or SIGHUP, running work may continue for the time of the setting 'drain'; "
            + "a second signal stops the service immediately. If the ledger of a database cannot be used, the service "
            + "ends with the exit status of that error.",
        isService: true
    ) { invocation in
        let configuration = try invocation.configuration()
        // The log goes through a queue, so that the work never waits for the reader of the log.
        let log = QueuedSink(
            configuration.logSink(isTerminal: isatty(STDERR_FILENO) == 1, colour: invocation.console.usesColour))
        let logger = configuration.logger(verbose: invocation.has("verbose"), to: log)
        let ending: any Error
        do {
            try await Service(features: invocation.features, configuration: configuration, logger: logger).run()
            ending = CancellationError()
        } catch {
            ending = error
        }
        try? await onOwnThread(named: "end of the log") { _ = log.finish(within: lastWords) }
        throw ending
    }

    /// How long an orderly stop waits for the reader of the log.
    private static let lastWords: Duration = .seconds(2)
}
