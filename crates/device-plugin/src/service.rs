//! What the kubelet asks of a plugin, answered for one device.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::api::device_plugin::device_plugin_server::DevicePlugin;
use crate::api::{
    AllocateRequest, AllocateResponse, DevicePluginOptions, Empty, ListAndWatchResponse,
    PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse,
};
use crate::device::SharedDevice;
use crate::health::Condition;

/// One device, for as long as its socket is served.
#[derive(Debug)]
pub(crate) struct DeviceService {
    pub(crate) device: SharedDevice,
    pub(crate) condition: watch::Receiver<Condition>,
    /// Ends the kubelet's streams, which otherwise last for ever and keep the server up.
    pub(crate) over: CancellationToken,
}

#[tonic::async_trait]
impl DevicePlugin for DeviceService {
    type ListAndWatchStream = Pin<Box<dyn Stream<Item = Result<ListAndWatchResponse, Status>> + Send>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let device = self.device.clone();
        let lists = WatchStream::new(self.condition.clone())
            .map(move |condition| Ok(ListAndWatchResponse { devices: device.list(condition.is_ok()) }))
            .take_until(self.over.clone().cancelled_owned());
        Ok(Response::new(Box::pin(lists)))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Ok(Response::new(PreferredAllocationResponse::default()))
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        // The device may have gone since the kubelet counted it. A refusal fails the pod with this message.
        if let Err(reason) = &*self.condition.borrow() {
            return Err(Status::unavailable(format!("{}: {reason}", self.device.resource)));
        }
        let containers = request.into_inner().container_requests;
        let container_responses = containers.iter().map(|_| self.device.allocation()).collect();
        Ok(Response::new(AllocateResponse { container_responses }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Ok(Response::new(PreStartContainerResponse::default()))
    }
}
