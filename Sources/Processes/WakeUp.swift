import CSystem
import Foundation

/// A flag for which `poll(2)` can wait. Any thread may raise it. The thread that waits lowers it.
public final class WakeUp: Sendable {
    /// Readable while the flag is raised.
    public let descriptor: Int32

    /// - Throws: `POSIXError` if no descriptor is available.
    public init() throws {
        descriptor = csystem_eventfd()
        if descriptor < 0 { throw POSIXError(POSIXErrorCode(rawValue: errno) ?? .EMFILE) }
    }

    deinit { close(descriptor) }

    public func raise() { csystem_eventfd_signal(descriptor) }

    public func lower() { csystem_eventfd_drain(descriptor) }
}
