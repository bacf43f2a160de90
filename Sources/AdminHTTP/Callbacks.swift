import CMicrohttpd
import Foundation

/// The functions that libmicrohttpd calls on its own thread. Each function finds the `Dispatcher` in its context
/// pointer.
enum Callbacks {
    static func all(_ dispatcher: Dispatcher) -> reeve_mhd_callbacks {
        reeve_mhd_callbacks(
            begin: begin, handle: handle, completed: completed, notify: notify,
            context: Unmanaged.passUnretained(dispatcher).toOpaque())
    }

    private static func dispatcher(_ context: UnsafeMutableRawPointer?) -> Dispatcher? {
        context.map { Unmanaged<Dispatcher>.fromOpaque($0).takeUnretainedValue() }
    }

    private static func exchange(_ state: UnsafeMutablePointer<UnsafeMutableRawPointer?>?) -> Exchange? {
        state?.pointee.map { Unmanaged<Exchange>.fromOpaque($0).takeUnretainedValue() }
    }

    private static let notify: MHD_NotifyConnectionCallback = { context, connection, _, event in
        guard let watch = dispatcher(context)?.watch, let connection else { return }
        let id = UInt(bitPattern: connection)
        // 1 is MHD_CONNECTION_NOTIFY_CLOSED, which Swift does not import by name.
        if event.rawValue == 1 { return watch.closed(id) }
        watch.opened(id, reeve_mhd_descriptor(connection), from: PeerAddress(reeve_mhd_peer(connection))?.peer)
    }

    private static let begin:
        @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<CChar>?, OpaquePointer?) -> UnsafeMutableRawPointer? = {
            _, target, connection in
            guard let target, let connection else { return nil }
            let length = strlen(target)
            let bytes = UnsafeRawBufferPointer(start: target, count: min(length, RequestTarget.Limits.bytes + 1))
            let exchange = Exchange(
                connection, target: Array(bytes), targetEnd: UInt(bitPattern: target) + UInt(length))
            // libmicrohttpd parses the query next, and sends no answer at all if its memory is too small for the
            // parameters. The query is therefore cut off here, and `RequestTarget` parses it from the copy in
            // `exchange`. `target` points into libmicrohttpd's receive buffer. Writing there is safe, because
            // libmicrohttpd itself also modifies that buffer.
            if let mark = strchr(target, CInt(UInt8(ascii: "?"))) { mark[1] = 0 }
            return Unmanaged.passRetained(exchange).toOpaque()
        }

    private static let handle: MHD_AccessHandlerCallback = {
        context, connection, _, method, version, data, size, state in
        guard let dispatcher = dispatcher(context), let exchange = exchange(state), let connection, let method,
            let version, let size
        else { return .NO }
        switch exchange.stage {
        case .head:
            return dispatcher.receive(
                head: exchange, method: String(cString: method), version: version, fields: fields(connection),
                end: UInt(bitPattern: method) + UInt(reeve_mhd_head_size(connection)))
        case .suspended: return dispatcher.resume(exchange)
        case .body(let admission):
            if size.pointee == 0 { return dispatcher.callHandler(exchange, admission) }
            defer { size.pointee = 0 }
            return dispatcher.receive(
                body: UnsafeRawBufferPointer(start: data, count: size.pointee), of: exchange, admission)
        case .answered: return .NO
        }
    }

    private static let completed: MHD_RequestCompletedCallback = { context, connection, state, _ in
        if let state, let exchange = state.pointee {
            Unmanaged<Exchange>.fromOpaque(exchange).release()
            state.pointee = nil
        }
        guard let connection else { return }
        dispatcher(context)?.watch.answered(UInt(bitPattern: connection))
    }

    private final class Collected { var fields: [HeaderField] = [] }

    private static func fields(_ connection: OpaquePointer) -> [HeaderField] {
        let collected = Collected()
        MHD_get_connection_values(
            connection, .HEADER_KIND,
            { context, _, name, value in
                guard let context, let name, let value else { return .YES }
                Unmanaged<Collected>.fromOpaque(context).takeUnretainedValue().fields.append(
                    HeaderField(
                        name: String(cString: name), value: String(cString: value),
                        nameAddress: UInt(bitPattern: name), valueAddress: UInt(bitPattern: value)))
                return .YES
            }, Unmanaged.passUnretained(collected).toOpaque())
        return collected.fields
    }
}
